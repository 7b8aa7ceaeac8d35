// Package verify re-reads an archive and says what is wrong with it. It writes nothing but notes of what it has found of
// backups and segments, by which all that walkeep says and decides goes.
//
// Without Deep it goes by the archive's listing, its notes, its histories and its manifests, and opens the trailers of
// backups' objects. With Deep it reads every stored byte: each object is expanded and held against its trailer and its
// name, the WAL is walked record by record across the borders of segments and timelines, histories are held against each
// other, and each block of each file of each backup against the index.
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
	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Severity says what a problem means.
type Severity string

// The severities, the worst first.
const (
	Damage   Severity = "damaged"  // something stored is not what it was, or cannot be read
	Unread   Severity = "unread"   // something stored may be sound, but is in a form that this version does not read
	Missing  Severity = "missing"  // something that was there, or must have been, is not
	Database Severity = "database" // the WAL was broken before it was archived
	// Unchecked is WAL of a version of PostgreSQL that is not known; nothing that could be checked is wrong.
	Unchecked Severity = "unchecked"
	Leftover  Severity = "leftover" // something takes space that nobody needs; nothing is wrong
)

var severities = []Severity{Damage, Unread, Missing, Database, Unchecked, Leftover}

// severity is that of an object that cannot be read.
func severity(err error) Severity {
	if errors.Is(err, archive.ErrNoFormat) {
		return Unread
	}
	return Damage
}

// A Problem is one thing that is wrong.
type Problem struct {
	Severity Severity `json:"severity"`
	Object   string   `json:"object"`
	Text     string   `json:"problem"`

	// listed says that the problem is none if the object is not listed any more, fault that it is none if the inventory finds
	// no fault in it any more, backup that it is none if the backup with this id is gone.
	listed bool
	fault  bool
	backup string
	// segment is the one that is damaged, lsn where its records are broken, or 0 if its object is.
	segment wal.Name
	lsn     wal.LSN
	known   bool // it was found before
	open    bool // who opens the object sees it, without reading it
}

func (p Problem) String() string { return fmt.Sprintf("%s: %s", p.Object, p.Text) }

// Options say how an archive is verified.
type Options struct {
	Deep     bool
	Jobs     int                      // cores
	Begin    func(bytes int64)        // called with the number of bytes that will be read; may be nil
	Progress func(bytes int64)        // called with the bytes that were read since the last call; may be nil
	Live     func(archive.Lease) bool // nil: archive.Lease.Live
}

// A Result is what was found.
type Result struct {
	Deep     bool      `json:"deep"`
	Objects  int       `json:"objects"` // that were looked at
	Bytes    int64     `json:"bytes"`   // that were read of them, with Deep
	Seconds  float64   `json:"seconds"`
	Problems []Problem `json:"problems"`

	// Unkept is why the archive does not keep what was found; nil if it does.
	Unkept error `json:"-"`
}

// Wrong is the number of problems that mean that something is wrong.
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
	b   storage.Backend
	inv *archive.Inventory

	mu     sync.Mutex
	result Result
	newer  map[uint16]*newer // by page magic
}

// Run verifies an archive. An error means that it could not be verified, a problem that something is wrong.
func Run(ctx context.Context, a *archive.Archive, o Options) (*Result, error) {
	if o.Live == nil {
		o.Live = archive.Lease.Live
	}
	for _, f := range []*func(int64){&o.Begin, &o.Progress} {
		if *f == nil {
			*f = func(int64) {}
		}
	}
	o.Jobs = max(1, o.Jobs)
	v := &verifier{Options: o, a: a, b: a.Backend(), result: Result{Deep: o.Deep, Problems: []Problem{}}}
	begun := time.Now()
	if err := v.run(ctx); err != nil {
		return nil, err
	}
	v.result.Seconds = time.Since(begun).Seconds()
	return &v.result, nil
}

func (v *verifier) run(ctx context.Context) error {
	var err error
	if v.inv, err = v.a.Inventory(ctx); err != nil {
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

// read counts an object that was looked at, and the bytes that were read of it.
func (v *verifier) read(bytes int64) {
	v.mu.Lock()
	v.result.Objects++
	v.result.Bytes += bytes
	v.mu.Unlock()
	v.Progress(bytes)
}

// inventory reports what the inventory says.
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
		if !slices.ContainsFunc(v.inv.Leases, func(l archive.Lease) bool { return l.Backup == id && v.Live(l) }) {
			v.problem(Problem{Severity: Leftover, Object: dir, Text: "a backup that was never finished; cleanup removes it"})
		}
	}
	checkHistories(v.inv, v.problem)
}

// streamed looks at what was streamed and is not in the archive proper. What its own writer has put aside is named so.
func (v *verifier) streamed(ctx context.Context) error {
	for _, e := range v.inv.Streamed {
		n, err := wal.ParseName(path.Base(e.Name))
		switch {
		case e.IsDir():
		case err != nil:
			v.problem(Problem{Severity: Damage, Object: e.Name, Text: "it was streamed, and is not what the archive holds under its name, or no WAL; look at it, and remove it", listed: true})
		case v.Deep && n.Kind == wal.KindPartial:
			_, length, err := v.a.Streamed(ctx, n)
			if errors.Is(err, storage.ErrNotExist) {
				continue
			}
			if errors.Is(err, archive.ErrNotWAL) {
				v.problem(Problem{Severity: Damage, Object: e.Name, Text: err.Error(), listed: true})
			} else if err != nil {
				return err
			}
			v.read(length)
		}
	}
	return nil
}

// identity holds archive.json against what the inventory has understood of it.
func (v *verifier) identity(ctx context.Context) error {
	const name = "archive.json"
	content, err := storage.ReadAll(ctx, v.b, name, 1<<20)
	if err != nil {
		return err
	}
	want, err := json.Marshal(v.inv.Identity)
	if err == nil && string(content) != string(want)+"\n" {
		v.problem(Problem{Severity: Damage, Object: name, Text: "it can be read, but is not what walkeep writes"})
	}
	v.read(int64(len(content)))
	return err
}

// broken is a problem of the database's own.
func broken(object, text string) Problem {
	return Problem{Severity: Database, Object: object, Text: text}
}

// objects lists the objects of WAL files that can be read.
func (v *verifier) objects(ctx context.Context) ([]archive.Object, error) {
	all, err := v.a.Histories(ctx)
	if err != nil {
		return nil, err
	}
	for o, err := range v.a.Objects(ctx) {
		if err != nil {
			return nil, err
		}
		if o.Size > 0 && o.Err == nil { // or the inventory has found a fault in it
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

// recheck drops the problems of what has been removed meanwhile, and gaps that have been filled: an archive is written
// and cleaned up while it is verified.
func (v *verifier) recheck(ctx context.Context) error {
	if len(v.result.Problems) == 0 {
		return nil
	}
	inv, err := v.a.Inventory(ctx)
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
			if !slices.ContainsFunc(inv.Faults, func(f archive.Fault) bool { return f.Object == p.Object }) {
				continue
			}
		case p.backup != "":
			_, err := backup.ReadManifest(ctx, v.b, p.backup)
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
	entries, err := storage.ListAll(ctx, v.b, object)
	return slices.ContainsFunc(entries, func(e storage.Entry) bool { return e.Name == object }), err
}
