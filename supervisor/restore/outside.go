package restore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/wal"
)

// An OutsideError says that the replay would write to a place that is not the restored cluster's: a record creates a
// tablespace there. Replay makes its directory and the link to it again, whatever the link says before, so that such a
// tablespace can be put nowhere else.
type OutsideError struct {
	wal.Change
	Reason string // why the place cannot be the restored cluster's
	// Missing says that there is nothing at the place, so that the replay would end there.
	Missing bool
}

func (e *OutsideError) Error() string {
	return fmt.Sprintf("the WAL creates tablespace %d at %s in %s, %s", e.Tablespace.OID, e.Start, e.Tablespace.Location, e.Reason)
}

// examineCreated looks whether the places of tablespaces that the replay creates are free, or the directory's own.
func (r *restorer) examineCreated(left *note) error {
	if r.Recovery.Standby != nil && r.beside != "" {
		r.Notice("make no tablespace on that server while this standby runs, or move the standby to another host",
			"the server in "+r.beside+" is of the same cluster: a tablespace that is made there is made by the standby at the same place, because PostgreSQL can put it nowhere else")
	}
	if unread := r.Changes.Unread; unread != nil {
		const unknown = "the WAL is of a newer version of PostgreSQL: whether it creates tablespaces cannot be told from the %s on"
		if r.beside != "" && (r.Changes.Last < r.m.Stop || r.Recovery.Standby != nil || r.Plan.Target.Kind != archive.ToLatest) {
			return fmt.Errorf("the server in %s is of the same cluster, and "+unknown, r.beside, unread)
		}
		r.Notice("see that the places of the cluster's newest tablespaces are free on this host", fmt.Sprintf(unknown, unread))
	}
	for _, c := range r.Changes.Tablespaces {
		if c.Tablespace.Location == "" {
			continue // it lies in the data directory
		}
		p, reason, err := r.placeOfCreated(c, left)
		if err != nil {
			return err
		}
		if reason != "" {
			return &OutsideError{Change: c, Reason: reason, Missing: reason == missing}
		}
		if p != nil {
			r.places = append(r.places, p)
		}
	}
	return nil
}

const missing = "which is not there"

// placeOfCreated finds where a tablespace goes that the replay creates; nil where one of the backup's is or was there. The
// reason says why it cannot go there.
func (r *restorer) placeOfCreated(c wal.Change, left *note) (_ *place, reason string, err error) {
	oid := strconv.FormatUint(uint64(c.Tablespace.OID), 10)
	location := c.Tablespace.Location
	if !filepath.IsAbs(location) || strings.ContainsAny(location, "\n\r") {
		return nil, "which is no absolute path here", nil
	}
	dir, err := resolve(location)
	if err != nil {
		return nil, "which cannot be used: " + err.Error(), nil
	}
	if i := slices.IndexFunc(r.places, func(p *place) bool { return p.oid == oid && p.dir != dir }); i >= 0 {
		return nil, "which would be used instead of " + r.places[i].dir, nil
	}
	if slices.ContainsFunc(r.places, func(p *place) bool { return p.oid != "" && p.dir == dir }) {
		return nil, "", nil
	}
	p := &place{prefix: "pg_tblspc/" + oid, oid: oid, dir: dir, link: filepath.Clean(location), created: true}
	if within(r.Dir, dir) {
		return nil, r.insideData(dir), nil
	}
	info, err := os.Stat(dir)
	switch {
	case err == nil && r.owns(p, left):
		return p, "", nil
	case r.beside != "":
		return nil, "and the server in " + r.beside + " is of the same cluster", nil
	case errors.Is(err, fs.ErrNotExist):
		return nil, missing, nil
	case err != nil:
		return nil, "which cannot be used: " + err.Error(), nil
	case !info.IsDir():
		return nil, "which is no directory", nil
	}
	if p.empty, err = isEmpty(dir); err != nil {
		return nil, "", err
	}
	if !p.empty {
		return nil, "which is not empty", nil
	}
	r.Notice("", fmt.Sprintf("the replay makes tablespace %s in %s", oid, dir))
	return p, "", nil
}

// insideData has the directory made for a tablespace in the data directory, or says why it cannot go there.
func (r *restorer) insideData(dir string) string {
	name, err := filepath.Rel(r.Dir, dir)
	name = filepath.ToSlash(name)
	if err != nil || name == "." || isData(name) {
		return "which is the database's own"
	}
	r.inside = append(r.inside, name)
	return ""
}

// endNow has the recovery of a copy beside a server end with the WAL that was looked at: what the server archives later may
// create tablespaces at its own places.
func (r *restorer) endNow() {
	if r.beside == "" || r.Recovery.Standby != nil || r.Plan.Target.Kind != archive.ToLatest || r.Changes.Last == 0 {
		return
	}
	r.Recovery.Until = &archive.Target{Kind: archive.ToLSN, LSN: r.Changes.Last}
	r.Notice("", fmt.Sprintf("the server in %s is of the same cluster: recovery of this copy ends with the WAL that is in the archive now, at %s",
		r.beside, r.Changes.Last))
}

// clearCreated removes what the directory's server had in the place of a tablespace that the replay creates: pages that
// are newer than the target would not be replaced by it.
func (r *restorer) clearCreated(p *place) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fmt.Sprintf("PG_%d_", r.m.Major)) {
			continue
		}
		r.done.Removed++
		if err := p.root.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return nil
}
