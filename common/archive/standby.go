package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zeebo/xxh3"

	"walkeep/common/storage"
	"walkeep/common/wal"
)

// A Standby is what a standby that is fed from the archive has said it still needs.
type Standby struct {
	ID   string `json:"-"` // names its note
	Host string `json:"host"`
	Data string `json:"data_directory"`
	// Restartpoint is the segment from which it would replay after a crash; it needs nothing before it.
	Restartpoint string    `json:"restartpoint"`
	Noted        time.Time `json:"noted"` // for people; nothing is decided by it
}

// NoteStandby records a standby's restartpoint for those who remove WAL that nobody needs, if it has moved.
func (a *Archive) NoteStandby(ctx context.Context, s Standby) error {
	b, ok := a.b.(storage.Replacer)
	if !ok {
		return errors.New("this archive keeps no notes of standbys")
	}
	if _, err := wal.ParseName(s.Restartpoint); err != nil {
		return nil // not known yet: before its first checkpoint a server hands in zeros
	}
	name := standbyName(StandbyID(s.Host, s.Data))
	if old, err := storage.ReadAll(ctx, a.b, name, maxNote); err == nil {
		var before Standby
		if json.Unmarshal(old, &before) == nil && before.Restartpoint == s.Restartpoint {
			return nil
		}
	}
	content, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return b.Replace(ctx, name, append(content, '\n'))
}

// StandbyID names the note of the standby with this data directory, an absolute path without symbolic links.
func StandbyID(host, data string) string {
	return fmt.Sprintf("%016x", xxh3.HashString(host+"\x00"+data))
}

func standbyName(id string) string { return "standbys/" + id + ".json" }

// ForgetStandby removes the note of a standby that is no more. [ErrAbsent]: there is none with this ID.
func (a *Archive) ForgetStandby(ctx context.Context, id string) error {
	if strings.ContainsAny(id, "/.") {
		return fmt.Errorf("a note of standby %q is %w", id, ErrAbsent)
	}
	err := a.b.Remove(ctx, standbyName(id))
	if errors.Is(err, storage.ErrNotExist) {
		return fmt.Errorf("a note of standby %q is %w", id, ErrAbsent)
	}
	return err
}
