package main

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// An item is a file of an archive.
type item struct {
	name   string // in the archive
	source string
	mode   int64
}

// items lists what an archive for a system holds, in the order of the names.
func (r *release) items(s system) ([]item, error) {
	var items []item
	add := func(name, source string, mode int64) { items = append(items, item{name, source, mode}) }
	for _, p := range programs {
		add(p+s.exe(), filepath.Join(r.bin(s), p+s.exe()), 0o755)
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"} {
		add(name, filepath.Join(r.root, name), 0o644)
	}
	add("walkeep.ini.example", r.file("walkeep.ini"), 0o644)
	pages, manuals, err := r.pages()
	if err != nil {
		return nil, err
	}
	for _, page := range pages {
		add("docs/"+filepath.Base(page), page, 0o644)
	}
	if s.os != "windows" {
		for _, page := range manuals {
			add("man/"+filepath.Base(page), page, 0o644)
		}
		for _, shell := range []string{"bash", "zsh", "fish"} {
			add("completions/walkeep."+shell, r.file("walkeep."+shell), 0o644)
		}
	}
	if s.os == "linux" {
		for _, name := range []string{"walkeep.service", "walkeep@.service"} {
			add("systemd/"+name, filepath.Join(r.work, name), 0o644)
		}
	}
	slices.SortFunc(items, func(a, b item) int { return strings.Compare(a.name, b.name) })
	return items, nil
}

// pages lists the pages of docs, and the manual pages.
func (r *release) pages() (docs, manuals []string, err error) {
	docs, err = filepath.Glob(filepath.Join(r.root, "docs", "*.md"))
	if err == nil {
		manuals, err = filepath.Glob(filepath.Join(r.work, "man", "*.1"))
	}
	if err == nil && (len(docs) == 0 || len(manuals) == 0) {
		err = fmt.Errorf("there are %d pages in docs, and %d manual pages", len(docs), len(manuals))
	}
	return docs, manuals, err
}

// file is a file beside this program.
func (r *release) file(name string) string {
	return filepath.Join(r.root, "scripts", "dist", "files", name)
}

// archive makes walkeep-VERSION-OS-ARCH.tar.gz, or .zip for Windows.
func (r *release) archive(s system) (err error) {
	items, err := r.items(s)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("walkeep-%s-%s", r.version, s)
	ending, write := ".tar.gz", r.writeTar
	if s.os == "windows" {
		ending, write = ".zip", r.writeZip
	}
	f, err := os.Create(filepath.Join(r.out, name+ending))
	if err != nil {
		return err
	}
	if err := write(f, name, items); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func (r *release) writeTar(w io.Writer, top string, items []item) error {
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	t := tar.NewWriter(z)
	for _, i := range items {
		content, err := os.ReadFile(i.source)
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: top + "/" + i.name, Mode: i.mode, Size: int64(len(content)), ModTime: r.made}); err != nil {
			return err
		}
		if _, err := t.Write(content); err != nil {
			return err
		}
	}
	if err := t.Close(); err != nil {
		return err
	}
	return z.Close()
}

func (r *release) writeZip(w io.Writer, top string, items []item) error {
	z := zip.NewWriter(w)
	for _, i := range items {
		content, err := os.ReadFile(i.source)
		if err != nil {
			return err
		}
		f, err := z.CreateHeader(&zip.FileHeader{Name: top + "/" + i.name, Method: zip.Deflate, Modified: r.made})
		if err != nil {
			return err
		}
		if _, err := f.Write(content); err != nil {
			return err
		}
	}
	return z.Close()
}
