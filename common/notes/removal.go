package notes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"walkeep/common/backup"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Removal marks objects of a repository for removal; see the package's documentation.
type Removal struct {
	ID         string    `json:"id"`
	Repository string    `json:"repository,omitempty"`
	Host       string    `json:"host"`
	User       string    `json:"user,omitempty"`
	Marked     time.Time `json:"marked"`
	Until      time.Time `json:"until"`
	// Doubted is when a cleanup has found the mark due so long after Until that it mistrusted its clock; nil if none has. A later
	// cleanup counts the time of the mark from there.
	Doubted *time.Time    `json:"doubted,omitempty"`
	Machine string        `json:"machine,omitempty"`
	Boot    string        `json:"boot,omitempty"`
	Uptime  time.Duration `json:"uptime,omitempty"`

	Backups  []string `json:"backups,omitempty"` // their ids
	WAL      []Range  `json:"wal,omitempty"`
	Streamed []Range  `json:"streamed,omitempty"`
	// Timelines are removed as cleanup --drop-timeline removes them.
	Timelines []wal.Timeline `json:"timelines,omitempty"`
}

// A Range is a range of a timeline's segments, by the names of its first and its last.
type Range struct {
	First string `json:"first"`
	Last  string `json:"last"`
}

// Names returns the names of a range's ends.
func (r Range) Names() (first, last wal.Name, err error) {
	if first, err = wal.ParseName(r.First); err == nil {
		last, err = wal.ParseName(r.Last)
	}
	if err == nil && (first.Kind != wal.KindSegment || last.Kind != wal.KindSegment || first.Timeline != last.Timeline || r.First > r.Last) {
		err = fmt.Errorf("%s to %s is no range of segments", r.First, r.Last)
	}
	return first, last, err
}

// Empty reports whether the mark marks nothing.
func (r *Removal) Empty() bool {
	return len(r.Backups)+len(r.WAL)+len(r.Streamed)+len(r.Timelines) == 0
}

// Text lists what is marked.
func (r *Removal) Text() string {
	var all []string
	if len(r.Backups) > 0 {
		all = append(all, "backups "+strings.Join(r.Backups, ", "))
	}
	for _, w := range r.WAL {
		all = append(all, "WAL from "+w.First+" to "+w.Last)
	}
	for _, w := range r.Streamed {
		all = append(all, "streamed parts of segments from "+w.First+" to "+w.Last)
	}
	for _, tli := range r.Timelines {
		all = append(all, fmt.Sprintf("timeline %d", tli))
	}
	return strings.Join(all, ", ")
}

// Names of the notes of removals.
const (
	RemovalsDir = "removals/"
	// begunDir has an object for each mark of which a cleanup has begun to remove something.
	begunDir = RemovalsDir + "begun/"
)

// ChangesName is the note by which a change of what a repository has long held is announced to those who keep listings: see package
// listing.
const ChangesName = RemovalsDir + "latest"

// RemovalName is the name of the note of a mark.
func RemovalName(id string) string { return RemovalsDir + id + ".json" }

// NoteRemoval leaves a mark, under a new ID if it has none, or in place of the one with its ID.
func (n Notes) NoteRemoval(ctx context.Context, r Removal) (Removal, error) {
	if r.ID == "" {
		r.ID = rand.Text()
	}
	if err := n.replace(ctx, RemovalName(r.ID), r); err != nil {
		return r, fmt.Errorf("mark for removal: %w", err)
	}
	return r, nil
}

// Removals reads all marks, in the order of their times.
func (n Notes) Removals(ctx context.Context) ([]Removal, []Fault, error) {
	all, faults, err := collect(ctx, n, RemovalsDir, func(name string, r *Removal) error {
		if RemovalName(r.ID) != name {
			return fmt.Errorf("%w: it is mark %q", codec.ErrDamaged, r.ID)
		}
		for _, id := range r.Backups {
			if err := backup.CheckID(id); err != nil {
				return fmt.Errorf("%w: %w", codec.ErrDamaged, err)
			}
		}
		for _, one := range slices.Concat(r.WAL, r.Streamed) {
			if _, _, err := one.Names(); err != nil {
				return fmt.Errorf("%w: %w", codec.ErrDamaged, err)
			}
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b Removal) int { return a.Marked.Compare(b.Marked) })
	return all, faults, err
}

// BeginRemoval records that a cleanup is about to remove what a mark names. Who withdraws the mark and then calls [Notes.Begun],
// and who calls BeginRemoval and then reads the marks, cannot miss each other.
func (n Notes) BeginRemoval(ctx context.Context, id string) error {
	return n.b.Replace(ctx, begunDir+id, []byte("begun\n"))
}

// Begun lists the IDs of the marks of which a cleanup has begun to remove something.
func (n Notes) Begun(ctx context.Context) ([]string, error) {
	entries, err := storage.ListAll(ctx, n.b, begunDir)
	var ids []string
	for _, e := range entries {
		ids = append(ids, strings.TrimPrefix(e.Name, begunDir))
	}
	return ids, err
}

// WithdrawRemoval removes a mark. That there is none is no error.
func (n Notes) WithdrawRemoval(ctx context.Context, id string) error {
	return n.remove(ctx, RemovalName(id))
}

// EndRemoval removes a mark of which all was removed, and what BeginRemoval has left.
func (n Notes) EndRemoval(ctx context.Context, id string) error {
	if err := n.remove(ctx, RemovalName(id)); err != nil {
		return err
	}
	err := n.b.Remove(ctx, begunDir+id)
	if errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrDenied) { // it says nothing without the mark
		return nil
	}
	return err
}
