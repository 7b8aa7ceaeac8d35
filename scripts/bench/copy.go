//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// copyTree copies a data directory with modes and owners. Files for which link returns true become hard links.
func copyTree(from, to string, link func(path string) bool) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		info, err := d.Info()
		if err != nil {
			return err
		}
		switch {
		case d.IsDir():
			err = os.Mkdir(target, info.Mode().Perm())
		case !d.Type().IsRegular():
			err = fmt.Errorf("%s is not a regular file", path)
		case link != nil && link(relative):
			return os.Link(path, target)
		default:
			err = copyFile(path, target, info.Mode().Perm())
		}
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return fmt.Errorf("owner of %s unknown", path)
		}
		return os.Chown(target, int(stat.Uid), int(stat.Gid))
	})
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// filesBelow lists all files below a directory.
func filesBelow(dir string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, path)
		}
		return err
	})
	return paths, err
}

// storedSize is the sum of the lengths of all files below a directory.
func storedSize(dir string) (int64, error) {
	paths, err := filesBelow(dir)
	if err != nil {
		return 0, err
	}
	var size int64
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}
