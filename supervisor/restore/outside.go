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

	"walkeep/common/cli"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// An OutsideError reports that the replay would write outside of the restored cluster: a record creates a tablespace
// there. Replay makes the tablespace's directory and the link to it again, whatever the link was before, so that such
// a tablespace cannot be moved. It is final for this target and host.
type OutsideError struct {
	wal.Change
	Reason string // why the location cannot be used
	// Missing reports whether the location does not exist, so that the replay would end there.
	Missing bool
}

func (e *OutsideError) Error() string {
	return fmt.Sprintf("the WAL creates tablespace %d at %s in %s, %s", e.Tablespace.OID, e.Start, e.Tablespace.Location, e.Reason)
}

// Hint returns how to recover without the tablespace, or with it.
func (e *OutsideError) Hint() string {
	before := "--target-lsn " + e.Start.String() + " --target-exclusive ends before it, and a backup that was taken after it can be restored with --tablespace-map"
	if e.Missing {
		return "make the directory (" + cli.Line("mkdir", "-p", "-m", "700", e.Tablespace.Location) + ", as the server's user) if this restore replaces the server that was there; " + before
	}
	return before + "; if this restore replaces the server that was there, stop that server, and empty the directory"
}

// examineCreated checks that the locations of tablespaces that the replay creates are free, or the directory's own.
func (r *restorer) examineCreated(left *note) error {
	if r.Recovery.Standby != nil && r.beside != "" {
		r.Notice("create no tablespace on that server while this standby runs, or move the standby to another host",
			"the server in "+r.beside+" is of the same cluster: if it creates a tablespace, the standby creates it at the same location, because PostgreSQL cannot move it")
	}
	if unread := r.Changes.Unread; unread != nil {
		const unknown = "the WAL is of a newer version of PostgreSQL: whether it creates tablespaces cannot be determined from the %s on"
		if r.beside != "" && (r.Changes.Last < r.m.Stop || r.Recovery.Standby != nil || r.Plan.Target.Kind != recovery.ToLatest) {
			return fmt.Errorf("the server in %s is of the same cluster, and "+unknown, r.beside, unread)
		}
		r.Notice("make sure that the locations of the cluster's newest tablespaces are free on this host", fmt.Sprintf(unknown, unread))
	}
	for _, c := range r.Changes.Tablespaces {
		if c.Tablespace.Location == "" {
			continue // it is in the data directory
		}
		p, reason, err := r.rootOfCreated(c, left)
		if err != nil {
			return err
		}
		if reason != "" {
			return &OutsideError{Change: c, Reason: reason, Missing: reason == missing}
		}
		if p != nil {
			r.roots = append(r.roots, p)
		}
	}
	return nil
}

const missing = "which does not exist"

// rootOfCreated finds the root for a tablespace that the replay creates; nil if the location is or was one of the
// backup's. The reason is why the location cannot be used.
func (r *restorer) rootOfCreated(c wal.Change, left *note) (_ *rootDir, reason string, err error) {
	oid := strconv.FormatUint(uint64(c.Tablespace.OID), 10)
	location := c.Tablespace.Location
	if !filepath.IsAbs(location) || strings.ContainsAny(location, "\n\r") {
		return nil, "which is not an absolute path on this system", nil
	}
	dir, err := resolve(location)
	if err != nil {
		return nil, "which cannot be used: " + err.Error(), nil
	}
	if i := slices.IndexFunc(r.roots, func(p *rootDir) bool { return p.oid == oid && p.dir != dir }); i >= 0 {
		return nil, "which would be used instead of " + r.roots[i].dir, nil
	}
	if slices.ContainsFunc(r.roots, func(p *rootDir) bool { return p.oid != "" && p.dir == dir }) {
		return nil, "", nil
	}
	p := &rootDir{prefix: "pg_tblspc/" + oid, oid: oid, dir: dir, link: filepath.Clean(location), created: true}
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
		return nil, "which is not a directory", nil
	}
	if p.empty, err = isEmpty(dir); err != nil {
		return nil, "", err
	}
	if !p.empty {
		return nil, "which is not empty", nil
	}
	r.Notice("", fmt.Sprintf("the replay creates tablespace %s in %s", oid, dir))
	return p, "", nil
}

// insideData plans a tablespace's directory in the data directory, or returns why it cannot be there.
func (r *restorer) insideData(dir string) string {
	name, err := filepath.Rel(r.Dir, dir)
	name = filepath.ToSlash(name)
	if err != nil || name == "." || isData(name) {
		return "which is the database's own"
	}
	r.inside = append(r.inside, name)
	return ""
}

// endNow ends the recovery of a copy beside a running server with the examined WAL: WAL that the server archives
// later may create tablespaces at the server's own locations.
func (r *restorer) endNow() {
	if r.beside == "" || r.Recovery.Standby != nil || r.Plan.Target.Kind != recovery.ToLatest || r.Changes.Last == 0 {
		return
	}
	r.Recovery.Until = &recovery.Target{Kind: recovery.ToLSN, LSN: r.Changes.Last}
	r.Notice("", fmt.Sprintf("the server in %s is of the same cluster: recovery of this copy ends with the WAL that is in the archive now, at %s",
		r.beside, r.Changes.Last))
}

// clearCreated removes the old files in the location of a tablespace that the replay creates: the replay would not
// replace pages that are newer than the target.
func (r *restorer) clearCreated(p *rootDir) error {
	entries, err := os.ReadDir(p.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), fmt.Sprintf("PG_%d_", r.m.Major)) {
			continue
		}
		r.done.Removed++
		if err := p.handle.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return nil
}
