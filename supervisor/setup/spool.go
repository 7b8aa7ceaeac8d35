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

// passing returns the temporary name of a spool that is being made or removed. The rename makes the spool and its
// note appear, or disappear, at once.
func passing(spool string) string {
	return filepath.Join(filepath.Dir(spool), "."+filepath.Base(spool)+".walkeep-setup")
}

// makeSpool makes a spool that contains the note from its first moment on.
func makeSpool(ctx context.Context, spool string, n *note, user account.Account) error {
	temp := passing(spool)
	if err := os.Mkdir(temp, durable.DirMode); err != nil {
		return err
	}
	if err := user.Give(temp); err != nil {
		return err
	}
	if err := user.Protect(temp); err != nil {
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
	return durable.SyncDir(filepath.Dir(spool)) // or a power cut could remove the note that later steps rely on
}

// removeNote removes the note, and the whole spool if all is set and nothing else is in it. It reports whether it
// removed the spool.
func removeNote(spool string, all bool) (bool, error) {
	durable.Sweep(spool) // of a setup that was killed
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

// removePassing removes the temporary directory of a setup or undo that was killed.
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
	if err := os.Remove(temp); err != nil { // os.Remove fails if the directory is not empty
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
