package setup

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/storage"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

const (
	noteName    = "setup.json"
	noteVersion = 1
	maxNote     = 1 << 20 // bytes
)

// A note records the state before setup, and what setup made or was about to make when it was killed.
type note struct {
	Version   int          `json:"version"`
	SystemID  wal.SystemID `json:"system_identifier,string"`
	Settings  []noted      `json:"settings"`
	Slots     []string     `json:"slots"` // made by setup
	Roles     []notedRole  `json:"roles"`
	Files     []notedFile  `json:"files"`
	SpoolMade bool         `json:"spool_made"`
}

// A noted setting is an entry of postgresql.auto.conf.
type noted struct {
	Name string   `json:"name"`
	Was  *string  `json:"was"` // the value before; null: there was no entry
	Set  []string `json:"set"` // the values that setup wrote, the latest last
}

type notedRole struct {
	Name    string   `json:"name"`
	Made    bool     `json:"made"`
	Granted []string `json:"granted"` // to a role that existed before
}

// A notedFile is a configuration file that setup made.
type notedFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// readNote reads the note in a spool. It returns nil if there is no note or no spool.
func readNote(ctx context.Context, spool string) (*note, error) {
	b, err := local.Open(spool)
	if err != nil {
		if !exists(spool) {
			return nil, nil
		}
		return nil, err
	}
	content, err := storage.ReadAll(ctx, b, noteName, maxNote)
	if errors.Is(err, storage.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	n := &note{}
	if err := json.Unmarshal(content, n); err != nil {
		return nil, fmt.Errorf("read %s: %w: %v", noteName, archive.ErrDamaged, err)
	}
	if n.Version != noteVersion {
		return nil, fmt.Errorf("%s has version %d, this program reads %d: %w", noteName, n.Version, noteVersion, archive.ErrNoFormat)
	}
	return n, nil
}

// write writes the note into a directory, as a file of the server's user.
func (n *note) write(ctx context.Context, dir string, user account.Account) error {
	content, err := json.MarshalIndent(n, "", "  ")
	if err != nil {
		return err
	}
	b, err := local.Open(dir)
	if err != nil {
		return err
	}
	if err := b.Replace(ctx, noteName, append(content, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", noteName, err)
	}
	return user.Give(filepath.Join(dir, noteName))
}

// setting notes that a setting is about to be changed. A value that setup itself wrote does not replace the noted
// one.
func (n *note) setting(name string, now *string, to string) {
	i := slices.IndexFunc(n.Settings, func(s noted) bool { return s.Name == name })
	if i < 0 {
		n.Settings, i = append(n.Settings, noted{Name: name, Was: now}), len(n.Settings)
	}
	s := &n.Settings[i]
	if !s.ours(now) {
		s.Was, s.Set = now, nil
	}
	if !slices.Contains(s.Set, to) {
		s.Set = append(s.Set, to)
	}
}

// ours reports whether setup has written the entry.
func (s *noted) ours(now *string) bool { return now != nil && slices.Contains(s.Set, *now) }

// role notes that a role is about to be made, or to be granted rights.
func (n *note) role(name string, made bool, granted []string) {
	i := slices.IndexFunc(n.Roles, func(r notedRole) bool { return r.Name == name })
	if i < 0 {
		n.Roles = append(n.Roles, notedRole{name, made, granted})
		return
	}
	r := &n.Roles[i]
	if r.Made = r.Made || made; r.Made {
		r.Granted = nil
		return
	}
	for _, g := range granted {
		if !slices.Contains(r.Granted, g) {
			r.Granted = append(r.Granted, g)
		}
	}
}

func (n *note) slot(name string) {
	if !slices.Contains(n.Slots, name) {
		n.Slots = append(n.Slots, name)
	}
}

func (n *note) file(f notedFile) {
	n.Files = slices.DeleteFunc(n.Files, func(have notedFile) bool { return have.Path == f.Path })
	n.Files = append(n.Files, f)
}
