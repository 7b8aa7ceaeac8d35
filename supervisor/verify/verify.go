// Package verify re-reads an archive and reports what is wrong with it. It writes only notes of its findings in
// backups and segments, which all other commands take into account.
//
// Without Deep it uses the archive's listing, its notes, histories and manifests, and opens the trailers of backups'
// objects. With Deep it reads every stored byte: it expands each object and compares it with its trailer and its
// name, walks the WAL record by record across the borders of segments and timelines, compares histories with each
// other, and compares each block of each file of each backup with the index. Of what is encrypted it does so only with the
// private key. Without that it compares every stored byte with the SHA-256 that the object or the backup's manifest holds.
package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"walkeep/common/archive"
	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Severity classifies a problem.
type Severity string

// The severities, the worst first.
const (
	Damage   Severity = "damaged"  // a stored object has changed, or cannot be read
	Unread   Severity = "unread"   // a stored object may be sound, but this version does not read its form
	Missing  Severity = "missing"  // something that existed, or must have existed, is missing
	Database Severity = "database" // the WAL was broken before it was archived
	// Unchecked is WAL of an unknown version of PostgreSQL; all checks that were possible succeeded.
	Unchecked Severity = "unchecked"
	Leftover  Severity = "leftover" // an object that is not needed takes space; nothing is wrong
)

var severities = []Severity{Damage, Unread, Missing, Database, Unchecked, Leftover}

// severity returns the severity of an error of reading an object.
func severity(err error) Severity {
	if errors.Is(err, archive.ErrNoFormat) {
		return Unread
	}
	return Damage
}

// A Problem is one finding.
type Problem struct {
	Severity Severity `json:"severity"`
	Object   string   `json:"object"`
	Text     string   `json:"problem"`
	Archive  string   `json:"archive,omitempty"` // the name of the place, where several were verified

	// listed: drop the problem if the object is no longer listed. fault: drop it if the inventory no longer finds a
	// fault in the object. backup: drop it if the backup with this id is gone.
	listed bool
	fault  bool
	backup string
	// segment is the damaged segment; lsn is where its records are broken, or 0 if its object is damaged.
	segment wal.Name
	lsn     wal.LSN
	known   bool // an earlier run found it
	open    bool // opening the object shows it, without reading
}

func (p Problem) String() string { return fmt.Sprintf("%s: %s", p.Object, p.Text) }

// Options describe how to verify an archive.
type Options struct {
	Deep     bool
	Jobs     int                    // cores
	Begin    func(bytes int64)      // called with the number of bytes that will be read; may be nil
	Progress func(bytes int64)      // called with the bytes that were read since the last call; may be nil
	Live     func(notes.Lease) bool // nil: notes.Lease.Live
}

// A Result lists the findings.
type Result struct {
	Deep     bool      `json:"deep"`
	Objects  int       `json:"objects"` // that were checked
	Bytes    int64     `json:"bytes"`   // that were read of them, with Deep
	Locked   int       `json:"locked"`  // encrypted objects of which Deep compared the stored bytes alone, for want of the private key
	Seconds  float64   `json:"seconds"`
	Problems []Problem `json:"problems"`
	Places   []Place   `json:"archives,omitempty"` // where several were verified

	// Unkept is why the findings could not be recorded in the archive; nil if they were.
	Unkept error `json:"-"`
}

// A Place is one of several archives that were verified.
type Place struct {
	Name     string `json:"name"`
	URL      string `json:"url"`
	Objects  int    `json:"objects"`
	Problems int    `json:"problems"`
	Error    string `json:"error,omitempty"` // why it could not be verified
}

// Add adds the findings of one of several archives, the worst first.
func (r *Result) Add(one *Result, name string) {
	r.Objects, r.Bytes, r.Locked, r.Seconds = r.Objects+one.Objects, r.Bytes+one.Bytes, r.Locked+one.Locked, r.Seconds+one.Seconds
	for _, p := range one.Problems {
		p.Archive = name
		r.Problems = append(r.Problems, p)
	}
	slices.SortStableFunc(r.Problems, func(a, b Problem) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
}

// Wrong returns the number of problems that mean that something is wrong.
func (r *Result) Wrong() int {
	n := 0
	for _, p := range r.Problems {
		if p.Severity != Leftover && p.Severity != Unchecked {
			n++
		}
	}
	return n
}

// A verifier collects problems. Its methods may be called concurrently.
type verifier struct {
	Options
	a   *archive.Archive
	inv *recovery.Inventory

	mu     sync.Mutex
	result Result
	newer  map[uint16]*newer // by page magic
	locked map[wal.Name]bool // segments of which only the stored bytes were compared
}

// Run verifies an archive. An error means that the archive could not be verified; a problem is a finding. Runs may be
// concurrent with each other and with all other commands.
func Run(ctx context.Context, a *archive.Archive, o Options) (*Result, error) {
	if o.Live == nil {
		o.Live = notes.Lease.Live
	}
	for _, f := range []*func(int64){&o.Begin, &o.Progress} {
		if *f == nil {
			*f = func(int64) {}
		}
	}
	o.Jobs = max(1, o.Jobs)
	v := &verifier{Options: o, a: a, result: Result{Deep: o.Deep, Problems: []Problem{}}}
	begun := time.Now()
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	v.result.Seconds = time.Since(begun).Seconds()
	return &v.result, nil
}

func (v *verifier) run(ctx context.Context) error {
	var err error
	if v.inv, err = recovery.ReadInventory(ctx, v.a); err != nil {
		return err
	}
	v.inventory()
	objects, err := v.objects(ctx)
	if err != nil {
		return err
	}
	if v.Deep {
		if err := v.identity(ctx); err != nil {
			return err
		}
		v.Begin(v.total(objects))
		if err := v.readWAL(ctx, objects); err != nil {
			return err
		}
		v.reportNewer()
	}
	for _, m := range v.inv.Backups {
		if err := v.backup(ctx, m); err != nil {
			return err
		}
	}
	if !v.Deep {
		v.known()
	}
	if err := v.streamed(ctx); err != nil {
		return err
	}
	if err := v.recheck(ctx); err != nil {
		return err
	}
	slices.SortStableFunc(v.result.Problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity)), strings.Compare(a.Object, b.Object))
	})
	v.result.Problems = slices.Compact(v.result.Problems)
	v.result.Unkept = v.keep(ctx)
	return ctx.Err()
}

func (v *verifier) problem(p Problem) {
	p.Text = strings.TrimPrefix(p.Text, p.Object+": ")
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Problems = append(v.result.Problems, p)
}

// read counts an object that was checked, and the bytes that were read of it.
func (v *verifier) read(bytes int64) {
	v.mu.Lock()
	v.result.Objects++
	v.result.Bytes += bytes
	v.mu.Unlock()
	v.Progress(bytes)
}

// countLocked counts an encrypted object of which only the stored bytes were compared; n is empty if it is no segment.
func (v *verifier) countLocked(n wal.Name) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Locked++
	if v.locked == nil {
		v.locked = make(map[wal.Name]bool)
	}
	v.locked[n] = true
}

// inventory reports the inventory's faults.
func (v *verifier) inventory() {
	for _, f := range v.inv.Faults {
		v.problem(Problem{Severity: severity(f.Err), Object: f.Object, Text: f.Err.Error(), fault: true})
	}
	for _, p := range gaps(v.inv) {
		v.problem(p)
	}
	for _, d := range v.inv.Damages {
		if d.Found || d.Left {
			continue
		}
		v.problem(broken(d.Segment.String(), fmt.Sprintf("archived with broken WAL records at %s: %s", d.LSN, d.Reason)))
	}
	for _, dir := range v.inv.Unfinished {
		id := path.Base(dir)
		if !slices.ContainsFunc(v.inv.Leases, func(l notes.Lease) bool { return l.Backup == id && v.Live(l) }) {
			v.problem(Problem{Severity: Leftover, Object: dir, Text: "a backup that was never finished; cleanup removes it"})
		}
	}
	checkHistories(v.inv, v.problem)
}

// streamed checks the streamed files that are not in the archive proper. A file that the stream has put aside has the
// reason in its name.
func (v *verifier) streamed(ctx context.Context) error {
	for _, e := range v.inv.Streamed {
		n, err := wal.ParseName(path.Base(e.Name))
		_, part := archive.StreamedOf(e)
		switch {
		case e.IsDir() && !part:
		case err != nil:
			v.problem(Problem{Severity: Damage, Object: e.Name, Text: "a streamed file that differs from the archive's of its name, or is not WAL; examine it, and remove it", listed: true})
		case v.Deep && part && !(e.IsDir() && v.inv.Has(n)): // pieces of a stored segment are of no account
			_, length, err := v.a.Streamed(ctx, n)
			if errors.Is(err, storage.ErrNotExist) {
				continue
			}
			if errors.Is(err, sealed.ErrNoKey) {
				v.countLocked(wal.Name{})
				continue
			}
			if errors.Is(err, archive.ErrNotWAL) || errors.Is(err, archive.ErrDamaged) {
				v.problem(Problem{Severity: Damage, Object: e.Name, Text: err.Error(), listed: true})
			} else if err != nil {
				return err
			}
			v.read(length)
		}
	}
	return nil
}

// identity compares archive.json with the inventory's reading of it.
func (v *verifier) identity(ctx context.Context) error {
	const name = archive.IdentityName
	content, err := storage.ReadAll(ctx, v.a.Backend(), name, 1<<20)
	if err != nil {
		return err
	}
	want, err := json.Marshal(v.inv.Identity)
	if err == nil && string(content) != string(want)+"\n" {
		v.problem(Problem{Severity: Damage, Object: name, Text: "it can be read, but was not written by walkeep"})
	}
	v.read(int64(len(content)))
	return err
}

// broken returns a problem that arose in the database.
func broken(object, text string) Problem {
	return Problem{Severity: Database, Object: object, Text: text}
}

// objects lists the readable objects of WAL files.
func (v *verifier) objects(ctx context.Context) ([]archive.Object, error) {
	all, err := v.a.Histories(ctx)
	if err != nil {
		return nil, err
	}
	for o, err := range v.a.Objects(ctx) {
		if err != nil {
			return nil, err
		}
		if o.Size > 0 && o.Err == nil { // otherwise the inventory has reported its fault
			all = append(all, o)
		}
	}
	if !v.Deep {
		v.result.Objects += len(all)
	}
	return all, nil
}

func (v *verifier) total(objects []archive.Object) int64 {
	var n int64
	for _, o := range objects {
		n += o.Size
	}
	for _, m := range v.inv.Backups {
		n += m.StoredBytes()
	}
	return n
}

// recheck drops problems of objects that were removed meanwhile, and gaps that were filled: an archive may be written
// and cleaned up while it is verified.
func (v *verifier) recheck(ctx context.Context) error {
	if len(v.result.Problems) == 0 {
		return nil
	}
	inv, err := recovery.ReadInventory(ctx, v.a)
	if err != nil {
		return err
	}
	still := gaps(inv)
	var kept []Problem
	for _, p := range v.result.Problems {
		switch {
		case p.listed:
			there, err := v.listed(ctx, p.Object)
			if err != nil {
				return err
			}
			if !there {
				continue
			}
		case p.fault:
			if !slices.ContainsFunc(inv.Faults, func(f notes.Fault) bool { return f.Object == p.Object }) {
				continue
			}
		case p.backup != "":
			_, err := v.a.Manifest(ctx, p.backup)
			if errors.Is(err, storage.ErrNotExist) {
				continue
			}
		case p.Severity == Missing && !slices.Contains(still, p):
			continue
		case p.Severity == Leftover && !slices.Contains(inv.Unfinished, p.Object):
			continue
		}
		kept = append(kept, p)
	}
	v.result.Problems = append([]Problem{}, kept...)
	return nil
}

func (v *verifier) listed(ctx context.Context, object string) (bool, error) {
	entries, err := v.a.List(ctx, object)
	return slices.ContainsFunc(entries, func(e storage.Entry) bool { return e.Name == object }), err
}
