//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// walkeep is this project's programs, built when first asked for.
type walkeep struct {
	place    *place
	bindir   string
	programs []string
	version  string
}

// contestant archives with archive-cmd and restores with restore-cmd.
func (w *walkeep) contestant(ctx context.Context, codec string) (*contestant, error) {
	if err := w.find(ctx); err != nil {
		return nil, err
	}
	c := &contestant{
		label:   "walkeep " + codec,
		version: w.version,
		known:   true,
		archive: func(a archive) string { return w.archiveCommand(a, codec) },
	}
	if codec != "lz4" {
		c.restores = []restorer{{name: "walkeep-" + codec, label: c.label, command: func(a archive) string {
			return fmt.Sprintf("%s/restore-cmd --spool %s %%f %%p %%r", w.bindir, a.store)
		}}}
	}
	if codec == "zstd" {
		far := &bucket{w, s3Server{place: w.place}}
		c.restores = append(c.restores, restorer{
			name: "walkeep-zstd-s3", label: "walkeep zstd, fetched from S3", command: far.command, setUp: far.filled, end: far.end,
		})
	}
	return c, nil
}

// A bucket is on an S3 server of this host.
type bucket struct {
	walkeep *walkeep
	s3Server
}

func (b *bucket) file(a archive) string { return filepath.Join(a.aux, "far.ini") }

func (b *bucket) command(a archive) string {
	return fmt.Sprintf("%s/restore-cmd -c %s %%f %%p %%r", b.walkeep.bindir, b.file(a))
}

// open starts the server on a directory, and writes a configuration with an empty spool.
func (b *bucket) open(ctx context.Context, store string, a archive) error {
	spool := filepath.Join(a.aux, "spool")
	if err := errors.Join(b.place.mkdir(spool), b.start(ctx, store, a.aux)); err != nil {
		return err
	}
	return b.place.writeFile(b.file(a), "spool = "+spool+"\n"+b.section("far"))
}

// filled opens a bucket that holds what was archived.
func (b *bucket) filled(ctx context.Context, a archive) error {
	store, near := filepath.Join(a.aux, "s3"), filepath.Join(a.aux, "near.ini")
	if err := errors.Join(b.place.mkdir(store), b.open(ctx, store, a)); err != nil {
		return err
	}
	if err := b.place.writeFile(near, "spool = "+a.store+"\nspool-keep = 1TB\n"+b.section("far")); err != nil {
		return err
	}
	_, err := b.place.output(ctx, filepath.Join(b.walkeep.bindir, "supervisor"), "-c", near, "--quiet", "ship")
	return err
}

// taker takes backups and restores them with supervisor. A kind is a codec. With -stream behind it, the server sends the files, and
// the backup is not restored, as it is the same. With -s3 the backup is stored in a bucket.
func (w *walkeep) taker(ctx context.Context, kind string) (*taker, error) {
	codec, way, _ := strings.Cut(kind, "-")
	if err := w.find(ctx); err != nil {
		return nil, err
	}
	t := &taker{label: "walkeep " + codec, version: w.version, kept: "backups", archive: func(a archive) string { return w.archiveCommand(a, codec) }}
	from := "files"
	where := func(a archive) string { return "--spool " + a.store }
	switch way {
	case "stream":
		t.label, from = t.label+", sent by the server", way
	case "s3":
		far := &bucket{w, s3Server{place: w.place}}
		t.label, t.kept, t.end = t.label+", S3", benchBucket+"/far/backups", far.end
		t.setUp = func(ctx context.Context, a archive) error { return far.open(ctx, a.store, a) }
		where = func(a archive) string { return "-c " + far.file(a) }
		t.archive = func(a archive) string {
			return fmt.Sprintf("%s/archive-cmd -c %s --codec %s %%p", w.bindir, far.file(a), codec)
		}
	}
	supervisor := func(a archive, command string) string {
		return fmt.Sprintf("%s/supervisor %s %s --jobs 2", w.bindir, where(a), command)
	}
	t.take = func(a archive) string {
		return supervisor(a, "backup --checkpoint fast --codec "+codec+" --backup-from "+from)
	}
	if way == "stream" || codec == "none" {
		return t, nil
	}
	t.opens = true
	t.restore = func(a archive) string { return supervisor(a, "restore --target-dir "+a.data) }
	t.delta = func(a archive) string { return supervisor(a, "restore --delta --target-dir "+a.data) }
	if way == "" {
		t.rejoin = func(a archive) string { return supervisor(a, "rejoin --pgdata "+a.data) }
	}
	return t, nil
}

func (w *walkeep) archiveCommand(a archive, codec string) string {
	return fmt.Sprintf("%s/archive-cmd --spool %s --codec %s %%p", w.bindir, a.store, codec)
}

func (w *walkeep) find(ctx context.Context) error {
	if w.version != "" {
		return nil
	}
	if w.bindir == "" {
		w.bindir = filepath.Join(w.place.dir, "bin")
		if err := w.build(ctx); err != nil {
			return err
		}
	}
	var err error
	if w.bindir, err = filepath.Abs(w.bindir); err != nil {
		return err
	}
	if !plainPath.MatchString(w.bindir) {
		return fmt.Errorf("--bindir %q: use a path of plain characters", w.bindir)
	}
	for _, name := range w.programs {
		out, err := w.place.output(ctx, filepath.Join(w.bindir, name), "--version")
		if err != nil {
			return err
		}
		if w.version == "" {
			w.version = strings.TrimSpace(out)
		}
	}
	return nil
}

func (w *walkeep) build(ctx context.Context) error {
	progress("building %s", strings.Join(w.programs, ", "))
	if err := os.RemoveAll(w.bindir); err != nil {
		return err
	}
	if err := os.Mkdir(w.bindir, 0o755); err != nil {
		return err
	}
	args := []string{"build", "-o", w.bindir}
	for _, name := range w.programs {
		args = append(args, "walkeep/"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build has it
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build walkeep: %w\n%s", err, tail(string(out)))
	}
	return nil
}
