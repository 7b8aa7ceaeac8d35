package restore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/account"
	"walkeep/common/durable"
	"walkeep/common/wal"
)

// markerName is the file in the data directory that marks it as being restored.
const markerName = "walkeep.restore"

// A note is the content of the marker.
type note struct {
	Backup      string            `json:"backup"`
	SystemID    wal.SystemID      `json:"system_identifier,string"`
	Tablespaces map[string]string `json:"tablespaces"` // locations by OID
	Own         []string          `json:"own,omitempty"`
	Before      *Before           `json:"before,omitempty"`
	KeptBefore  []string          `json:"kept_before,omitempty"`
}

// A marker is the locked file of a running restore.
type marker struct {
	f   *os.File
	dir string
}

// claim claims a directory for a restore, with an empty marker. Only one restore at a time can have it.
func claim(dir string, o account.Account) (*marker, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(markerName, os.O_RDWR|os.O_CREATE, durable.FileMode)
	if err != nil {
		return nil, err
	}
	m := &marker{f, dir}
	locked, err := durable.Lock(f)
	if err == nil && (!locked || !m.there()) { // another restore has it, or had it until now
		err = fmt.Errorf("%s %w by another restore", dir, ErrInUse)
	}
	if err == nil {
		err = o.GiveFile(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return m, nil
}

// write records in the marker that the restore has begun.
func (m *marker) write(n note) error {
	content, err := json.Marshal(n)
	if err != nil {
		return err
	}
	// The file is never empty again: only the marker identifies an interrupted restore that has removed the control
	// file.
	content = append(content, '\n')
	if _, err := m.f.WriteAt(content, 0); err != nil {
		return err
	}
	if err := m.f.Truncate(int64(len(content))); err != nil {
		return err
	}
	// It must be durable before anything else changes. Otherwise a power cut could leave an unmarked, broken
	// directory.
	if err := m.f.Sync(); err != nil {
		return err
	}
	return durable.SyncDir(m.dir)
}

// there reports whether the file still has its name.
func (m *marker) there() bool {
	own, err := m.f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(filepath.Join(m.dir, markerName))
	return err == nil && os.SameFile(own, named)
}

// close releases the directory. It removes an empty marker: nothing was changed.
func (m *marker) close() {
	info, err := m.f.Stat()
	if m.f.Close() == nil && err == nil && info.Size() == 0 {
		durable.Remove(filepath.Join(m.dir, markerName))
	}
}

func (m *marker) remove() error {
	m.f.Close() // Windows would not remove an open file
	if err := durable.Remove(filepath.Join(m.dir, markerName)); err != nil {
		return err
	}
	return durable.SyncDir(m.dir)
}

// readMarker reads the note of an interrupted restore; nil if there is none.
func readMarker(dir string) (*note, error) {
	path := filepath.Join(dir, markerName)
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().IsRegular() && info.Size() == 0 {
		return nil, nil // that restore was killed before it changed anything
	}
	if !info.Mode().IsRegular() || info.Size() > 1<<20 {
		return nil, fmt.Errorf("%s %w: %s was not written by a restore", dir, ErrNotData, markerName)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	locked, err := durable.Lock(f)
	if err != nil {
		return nil, err
	}
	if !locked {
		return nil, fmt.Errorf("%s %w by another restore", dir, ErrInUse)
	}
	var n note
	if err := json.NewDecoder(f).Decode(&n); err != nil {
		return nil, fmt.Errorf("%s %w: %s cannot be read: %v", dir, ErrNotData, markerName, err)
	}
	return &n, nil
}

// removeControl removes global/pg_control durably.
func removeControl(dir string) error {
	global := filepath.Join(dir, "global")
	if info, err := os.Lstat(global); err != nil || !info.IsDir() {
		return nil
	}
	if err := durable.Remove(filepath.Join(global, "pg_control")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	return durable.SyncDir(global)
}

// writeControl writes global/pg_control, so that the directory can be started.
func writeControl(dir string, content []byte, mode fs.FileMode) error {
	return durable.WriteFileMode(filepath.Join(dir, "global", "pg_control"), content, mode)
}
