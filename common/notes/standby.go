package notes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"walkeep/common/codec"
	"walkeep/common/host"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Standby records what a standby that is fed from the archive still needs.
type Standby struct {
	ID   string `json:"-"` // names its note
	Host string `json:"host"`
	// Machine distinguishes hosts of the same name; empty where it is not known.
	Machine string `json:"machine,omitempty"`
	Data    string `json:"data_directory"`
	// Restartpoint is the segment from which it would replay after a crash; it needs nothing before it.
	Restartpoint string    `json:"restartpoint"`
	Noted        time.Time `json:"noted"` // for people; nothing is decided by it
}

// NoteStandby records a standby's restartpoint, if it has moved. Cleanup keeps the WAL from there on.
func (n Notes) NoteStandby(ctx context.Context, s Standby) error {
	if _, err := wal.ParseName(s.Restartpoint); err != nil {
		return nil // not known yet: before its first checkpoint a server hands in zeros
	}
	id := StandbyID(s.Host, s.Data)
	if here := host.Here(); s.Host == here.Host {
		s.Machine = here.Machine
		var err error
		if id, err = n.StandbyHere(ctx, s.Data); err != nil {
			return err
		}
	}
	name := StandbyName(id)
	if old, err := storage.ReadAll(ctx, n.b, name, maxSize); err == nil {
		var before Standby
		if json.Unmarshal(old, &before) == nil && before.Restartpoint == s.Restartpoint && before.Machine == s.Machine {
			return nil
		}
	}
	return n.replace(ctx, name, s)
}

// StandbyID names the note of the standby with this data directory, an absolute path without symbolic links.
func StandbyID(host, data string) string {
	return fmt.Sprintf("%016x", xxh3.HashString(host+"\x00"+data))
}

// StandbyHere finds the ID of the standby with this data directory on this machine: that of its host's name and directory,
// unless that is taken by a standby of another machine whose host has the same name.
func (n Notes) StandbyHere(ctx context.Context, data string) (string, error) {
	here := host.Here()
	id := StandbyID(here.Host, data)
	if here.Machine == "" {
		return id, nil
	}
	own := StandbyID(here.Host+"\x00"+here.Machine, data)
	switch _, err := storage.ReadAll(ctx, n.b, StandbyName(own), maxSize); {
	case err == nil:
		return own, nil
	case !errors.Is(err, storage.ErrNotExist):
		return "", err
	}
	var first Standby
	content, err := storage.ReadAll(ctx, n.b, StandbyName(id), maxSize)
	if err != nil && !errors.Is(err, storage.ErrNotExist) {
		return "", err
	}
	if err == nil && json.Unmarshal(content, &first) == nil && first.Machine != "" && first.Machine != here.Machine {
		return own, nil
	}
	return id, nil
}

// StandbyName is the name of the note of a standby.
func StandbyName(id string) string { return standbysDir + id + ".json" }

const standbysDir = "standbys/"

// ErrAbsent says that there is no such note.
var ErrAbsent = errors.New("not in the archive")

// ForgetStandby removes the note of a standby; [ErrAbsent] if there is none with this ID.
func (n Notes) ForgetStandby(ctx context.Context, id string) error {
	err := storage.ErrNotExist
	if !strings.ContainsAny(id, "/.") {
		err = n.withdraw(ctx, StandbyName(id))
	}
	if errors.Is(err, storage.ErrNotExist) {
		return fmt.Errorf("a note of standby %q is %w", id, ErrAbsent)
	}
	return err
}

// Standbys reads the notes of all standbys.
func (n Notes) Standbys(ctx context.Context) ([]Standby, []Fault, error) {
	return collect(ctx, n, standbysDir, func(name string, s *Standby) error {
		if _, err := wal.ParseName(s.Restartpoint); err != nil {
			return fmt.Errorf("%w: %w", codec.ErrDamaged, err)
		}
		s.ID = id(name)
		return nil
	})
}
