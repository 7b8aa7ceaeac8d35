//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// pgBackRest is one version of the program, found when first asked for.
type pgBackRest struct {
	place   *place
	locate  func(ctx context.Context) (string, error)
	program string
	version string
}

// newestBackRest is the newest version that Debian has.
func newestBackRest(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "scripts/fetch-pgbackrest", "--path").Output()
	return strings.TrimSpace(string(out)), err
}

// installedBackRest is the version that is installed on this machine.
func installedBackRest(context.Context) (string, error) { return exec.LookPath("pgbackrest") }

// errNoBackRest says that there is no such version here.
var errNoBackRest = errors.New("this pgBackRest is not here")

func (r *pgBackRest) find(ctx context.Context) error {
	if r.version != "" {
		return nil
	}
	program, err := r.locate(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoBackRest, err)
	}
	version, err := r.place.output(ctx, program, "version")
	r.program, r.version = program, strings.TrimSpace(version)
	return err
}

func (r *pgBackRest) call(a archive) string {
	return r.program + " --config=" + filepath.Join(a.aux, "pgbackrest.conf") + " --stanza=bench "
}

// A stanza is how one contestant uses it: a codec, at level 1, with two processes.
type stanza struct {
	*pgBackRest
	codec string
	async string
	store *s3Server // nil: the repository is a directory
}

// stanza takes a kind apart: zst or lz4, with -s3 behind it for a repository in a bucket.
func (r *pgBackRest) stanza(ctx context.Context, kind, async string) (stanza, error) {
	codec, way, _ := strings.Cut(kind, "-")
	s := stanza{pgBackRest: r, codec: codec, async: async}
	if way == "s3" {
		s.store = &s3Server{place: r.place}
	}
	return s, r.find(ctx)
}

func (s stanza) label(async string) string {
	label := s.version + async + " " + s.codec + ", level 1"
	if s.store != nil {
		label += ", S3"
	}
	return label
}

func (s stanza) end() {
	if s.store != nil {
		s.store.end()
	}
}

// contestant makes the contestant of a kind. Archiving is asynchronous, its quick way; restoring is synchronous, as nothing fetches
// ahead for the other contestants either.
func (r *pgBackRest) contestant(ctx context.Context, kind string) (*contestant, error) {
	s, err := r.stanza(ctx, kind, "y")
	if err != nil {
		return nil, err
	}
	c := &contestant{
		label:   s.label(" async"),
		version: r.version,
		known:   s.store == nil,
		archive: func(a archive) string { return r.call(a) + "archive-push %p" },
		setUp:   s.create,
		end:     s.end,
	}
	if kind == "zst" {
		c.restores = []restorer{{
			name: "pgbackrest-zst", label: r.version + " archive-get zst",
			command: func(a archive) string { return r.call(a) + `archive-get %f "%p"` },
			setUp: func(_ context.Context, a archive) error {
				s.async = "n"
				return s.configure(a)
			},
		}}
	}
	return c, nil
}

// taker makes the contestant of backups, with the same settings, but for archiving in the plain way.
func (r *pgBackRest) taker(ctx context.Context, kind string) (*taker, error) {
	s, err := r.stanza(ctx, kind, "n")
	if err != nil {
		return nil, err
	}
	t := &taker{
		label:   s.label(""),
		version: r.version,
		kept:    "backup",
		opens:   true,
		archive: func(a archive) string { return r.call(a) + "archive-push %p" },
		setUp:   s.create,
		end:     s.end,
		take:    func(a archive) string { return r.call(a) + "--type=full --start-fast --no-archive-copy backup" },
		aim:     s.configure,
		restore: func(a archive) string { return r.call(a) + "restore" },
		delta:   func(a archive) string { return r.call(a) + "--delta restore" },
	}
	if s.store == nil {
		t.rejoin = func(a archive) string { return r.call(a) + "--delta --type=standby restore" }
	} else {
		t.kept = benchBucket + "/pgbackrest/backup"
	}
	return t, nil
}

// create makes the repository.
func (s stanza) create(ctx context.Context, a archive) error {
	if s.store != nil {
		if err := s.store.start(ctx, a.store, a.aux); err != nil {
			return err
		}
	}
	if err := s.configure(a); err != nil {
		return err
	}
	_, err := s.place.output(ctx, "/bin/sh", "-c", s.call(a)+"--no-online stanza-create")
	return err
}

// configure writes its configuration. All else than the repository goes to the auxiliary directory.
func (s stanza) configure(a archive) error {
	for _, name := range []string{"spool", "lock"} {
		if err := os.RemoveAll(filepath.Join(a.aux, name)); err != nil {
			return err
		}
		if err := s.place.mkdir(filepath.Join(a.aux, name)); err != nil {
			return err
		}
	}
	repository := "repo1-path=" + a.store
	if s.store != nil {
		host, port, err := net.SplitHostPort(s.store.address)
		if err != nil {
			return err
		}
		repository = fmt.Sprintf(`repo1-type=s3
repo1-path=/pgbackrest
repo1-s3-bucket=%s
repo1-s3-endpoint=%s
repo1-storage-port=%s
repo1-storage-ca-file=%s
repo1-s3-region=us-east-1
repo1-s3-uri-style=path
repo1-s3-key=%s
repo1-s3-key-secret=%s`, benchBucket, host, port, s.store.ca, benchKey, benchSecret)
	}
	return s.place.writeFile(filepath.Join(a.aux, "pgbackrest.conf"), fmt.Sprintf(`[global]
%s
spool-path=%s/spool
lock-path=%s/lock
log-level-file=off
archive-async=%s
process-max=2
compress-type=%s
compress-level=1

[bench]
pg1-path=%s
pg1-socket-path=%s
pg1-user=postgres
`, repository, a.aux, a.aux, s.async, s.codec, a.data, s.place.runs))
}
