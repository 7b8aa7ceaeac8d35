package setup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/account"
	"walkeep/common/durable"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// passing is the name of a spool that is being made, or removed: the two happen at once for everyone who looks.
func passing(spool string) string {
	return filepath.Join(filepath.Dir(spool), "."+filepath.Base(spool)+".walkeep-setup")
}

// makeSpool makes a spool that has the note in it from its first moment on.
func makeSpool(ctx context.Context, spool string, n *note, user account.Account) error {
	temp := passing(spool)
	if err := os.Mkdir(temp, durable.DirMode); err != nil {
		return err
	}
	if err := user.Give(temp); err != nil {
		return err
	}
	if err := n.write(ctx, temp, user); err != nil {
		return err
	}
	if exists(spool) {
		return &fs.PathError{Op: "make", Path: spool, Err: fs.ErrExist}
	}
	if err := durable.Replace(temp, spool); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(spool)) // or a power cut takes the note that is to outlive what follows
}

// removeNote removes the note, and with all the spool where nothing else is in it. It tells whether that is so.
func removeNote(spool string, all bool) (bool, error) {
	durable.Sweep(spool) // what a killed setup has left
	if !all || !onlyNote(spool) {
		return false, removeFile(filepath.Join(spool, noteName))
	}
	temp := passing(spool)
	if err := durable.Replace(spool, temp); err != nil {
		return false, err
	}
	if onlyNote(temp) {
		return true, removePassing(spool)
	}
	// Something was stored at the last moment.
	if err := durable.Replace(temp, spool); err != nil {
		return false, err
	}
	return false, removeFile(filepath.Join(spool, noteName))
}

// removePassing removes what a killed setup, or undo, has left beside the spool.
func removePassing(spool string) error {
	temp := passing(spool)
	if !exists(temp) {
		return nil
	}
	durable.Sweep(temp)
	if onlyNote(temp) {
		if err := removeFile(filepath.Join(temp, noteName)); err != nil {
			return err
		}
	}
	if err := os.Remove(temp); err != nil { // it is never removed with what is in it
		return err
	}
	return durable.SyncDir(filepath.Dir(spool))
}

func onlyNote(dir string) bool {
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 1 && entries[0].Name() == noteName
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}
