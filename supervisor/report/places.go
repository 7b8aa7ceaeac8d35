package report

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/recovery"
	"walkeep/common/storage"
)

// A Place is one of the archives that a report describes together: the spool, or a repository.
type Place struct {
	Name    string // of the repository; "spool"
	URL     string // of the repository; the spool's directory
	Spool   bool
	Archive *archive.Archive // nil if Err is not
	Err     error            // why it cannot be reached
}

// A Member is a Place in a report.
type Member struct {
	Name  string `json:"name"`
	URL   string `json:"url"`
	Error string `json:"error"` // why it cannot be reached: what it holds is not in the report
	// Backups are the ids of those with a manifest, Last is the last complete segment of the production server's timeline;
	// empty if there is none.
	Backups []string `json:"backups"`
	Last    string   `json:"last_segment"`
	// Lacks is what its server lacks that an archive should have, in words.
	Lacks []string `json:"lacks"`

	spool bool
}

// takePlaces describes the places, of which a has all that can be reached.
func (r *Report) takePlaces(ctx context.Context, inv *recovery.Inventory, o Options) {
	lost := false
	listed := []storage.Backend{inv.Then().Backend()}
	if u, ok := storage.As[interface{ Members() []storage.Backend }](listed[0]); ok {
		listed = u.Members()
	}
	var reached []*archive.Archive
	for _, p := range o.Places {
		if p.Err == nil {
			reached = append(reached, p.Archive)
		}
	}
	then := reached
	if len(listed) == len(reached) { // the archive consists of these places
		then = nil
		for _, b := range listed {
			then = append(then, archive.New(b))
		}
	}
	for _, p := range o.Places {
		m := Member{Name: p.Name, URL: p.URL, Backups: []string{}, Lacks: []string{}, spool: p.Spool}
		err := p.Err
		if err == nil {
			err = m.take(ctx, p.Archive, then[0], inv)
			then = then[1:]
			if err == nil && o.Probe {
				err = m.probe(ctx, p.Archive)
			}
		}
		if err != nil {
			m.Error, lost = err.Error(), true
		}
		r.Archives = append(r.Archives, m)
	}
	if !lost {
		return
	}
	for _, t := range r.Timelines {
		for i := range t.Gaps {
			t.Gaps[i].Unproven = true
		}
	}
	for _, w := range r.Windows {
		if w.Gap != nil && w.Gap.Damage == "" {
			w.Gap.Unproven = true
		}
	}
}

// take describes an archive, which then is as it was listed for the inventory.
func (m *Member) take(ctx context.Context, a, then *archive.Archive, inv *recovery.Inventory) error {
	if b, ok := storage.As[storage.Limited](a.Backend()); ok {
		lacks, err := b.Lacks(ctx)
		if err != nil {
			return err
		}
		m.Lacks = append(m.Lacks, lacks...)
	}
	dirs, err := then.List(ctx, archive.BackupsDir)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		id := path.Base(d.Name)
		if backup.CheckID(id) != nil || !d.IsDir() {
			continue
		}
		there, err := then.List(ctx, d.Name+backup.ManifestName)
		if err != nil {
			return err
		}
		if len(there) > 0 {
			m.Backups = append(m.Backups, id)
		}
	}
	tli := inv.Production().Timeline
	if tli == 0 {
		return nil
	}
	last, there, err := then.LastSegment(ctx, tli, inv.SegmentSize, ^uint64(0))
	if there && err == nil {
		m.Last = last.String()
	}
	return err
}

// probe asks the store what package [storage] calls conditional. Where this caller may not write, it cannot be asked, and need not.
func (m *Member) probe(ctx context.Context, a *archive.Archive) error {
	store, ok := storage.As[storage.Conditional](a.Backend())
	if !ok {
		return nil
	}
	sound, err := store.Conditional(ctx)
	if errors.Is(err, storage.ErrDenied) {
		return nil
	}
	if err == nil && !sound {
		m.Lacks = append(m.Lacks, "the store ignores If-None-Match, and lets two writers store under one name")
	}
	return err
}

// text describes what a place holds.
func (m Member) text() string {
	switch {
	case m.Error != "":
		return "CANNOT BE REACHED: " + m.Error
	case m.Last == "" && len(m.Backups) == 0:
		return "nothing"
	case m.Last == "":
		return count(len(m.Backups), "backup")
	}
	return fmt.Sprintf("%s, WAL to %s", count(len(m.Backups), "backup"), m.Last)
}

// title names a place.
func (m Member) title() string {
	if m.spool {
		return "the spool " + m.URL
	}
	return fmt.Sprintf("repository %s (%s)", m.Name, m.URL)
}

// places adds a finding for each place that cannot be reached, and for what a server lacks. Without the spool the server cannot
// archive; a repository gets later what is not in it.
func (f *findings) places() {
	for _, m := range f.r.Archives {
		for _, lack := range m.Lacks {
			f.add(Warning, "%s: %s", m.title(), lack).help("docs/repositories.md lists what a repository's server must be able to do")
		}
		if m.Error == "" {
			continue
		}
		if m.spool {
			f.add(Critical, "%s cannot be reached: %s", m.title(), m.Error).help("Mount its file system, and see that the service's user may read it")
			continue
		}
		f.add(Warning, "%s cannot be reached: %s", m.title(), m.Error).help("See whether it answers", "list", "--repo", m.Name)
	}
}

// where names the places; empty where the spool alone is the archive.
func (r *Report) where() string {
	var names []string
	for _, m := range r.Archives {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}
