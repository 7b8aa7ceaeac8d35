package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // the two forms that are made
	"github.com/goreleaser/nfpm/v2/files"
	_ "github.com/goreleaser/nfpm/v2/rpm"
)

// pack makes the Debian and the RPM package.
func (r *release) pack(s system) error {
	contents, err := r.contents(s)
	if err != nil {
		return err
	}
	for _, form := range []string{"deb", "rpm"} {
		info := nfpm.WithDefaults(&nfpm.Info{
			Name: "walkeep", Arch: s.arch, Platform: s.os, Version: r.version, Release: r.number, Section: "database", Priority: "optional",
			Maintainer: "The walkeep developers <walkeep@localhost>", License: "PostgreSQL", MTime: r.made,
			Description:     "WAL archiving, base backups, point-in-time recovery and promotion for PostgreSQL\nThree programs: two that PostgreSQL runs for each WAL segment, and one for people and the service manager.",
			DisableGlobbing: true,
			Overridables: nfpm.Overridables{
				Contents: contents, Umask: 0o022,
				Scripts: nfpm.Scripts{PostInstall: r.file("postinstall"), PreRemove: r.file("preremove"), PostRemove: r.file("postremove")},
				RPM:     nfpm.RPM{Group: "Applications/Databases", Summary: "WAL archiving and recovery for PostgreSQL", BuildHost: "localhost"},
			},
		})
		if err := nfpm.PrepareForPackager(info, form); err != nil {
			return err
		}
		packager, err := nfpm.Get(form)
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := packager.Package(info, &b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(r.out, packager.ConventionalFileName(info)), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// contents lists the files of a package.
func (r *release) contents(s system) (files.Contents, error) {
	var all files.Contents
	add := func(to, from string, mode os.FileMode) {
		all = append(all, &files.Content{Source: from, Destination: to, FileInfo: &files.ContentFileInfo{Mode: mode, MTime: r.made}})
	}
	for _, p := range programs {
		add("/usr/lib/walkeep/"+p, filepath.Join(r.bin(s), p), 0o755)
	}
	all = append(all, &files.Content{Source: "../lib/walkeep/supervisor", Destination: "/usr/bin/walkeep", Type: files.TypeSymlink, FileInfo: &files.ContentFileInfo{MTime: r.made}})
	for _, unit := range []string{"walkeep.service", "walkeep@.service"} {
		add("/usr/lib/systemd/system/"+unit, filepath.Join(r.work, unit), 0o644)
	}
	pages, manuals, err := r.pages()
	if err != nil {
		return nil, err
	}
	for _, page := range manuals {
		packed, err := r.gzip(page)
		if err != nil {
			return nil, err
		}
		add("/usr/share/man/man1/"+filepath.Base(packed), packed, 0o644)
	}
	add("/usr/share/bash-completion/completions/walkeep", r.file("walkeep.bash"), 0o644)
	add("/usr/share/zsh/vendor-completions/_walkeep", r.file("walkeep.zsh"), 0o644)
	add("/usr/share/fish/vendor_completions.d/walkeep.fish", r.file("walkeep.fish"), 0o644)
	add("/usr/share/doc/walkeep/examples/walkeep.ini", r.file("walkeep.ini"), 0o644)
	add("/usr/share/doc/walkeep/copyright", filepath.Join(r.root, "LICENSE"), 0o644)
	for _, name := range []string{"README.md", "CHANGELOG.md", "SECURITY.md"} {
		add("/usr/share/doc/walkeep/"+name, filepath.Join(r.root, name), 0o644)
	}
	for _, page := range pages {
		add("/usr/share/doc/walkeep/docs/"+filepath.Base(page), page, 0o644)
	}
	return all, nil
}

// gzip compresses a file, without its name and time.
func (r *release) gzip(path string) (string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := z.Write(content); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return path + ".gz", os.WriteFile(path+".gz", b.Bytes(), 0o644)
}
