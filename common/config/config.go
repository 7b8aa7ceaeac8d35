// Package config is walkeep's configuration: one set of names that are keys of the file, environment variables and
// options. An option beats the environment, which beats the file.
//
// The file is an INI file of `key = value` lines, under no section or the section [walkeep], and a section [repository NAME] for
// each archive at another place. All programs read the same file. The environment variable of the key spool-limit is
// WALKEEP_SPOOL_LIMIT; one that is empty counts as not set.
//
// A command fails for a wrong value of a key that it uses; of one that it does not use, it warns. A line that no program
// understands is an error for a command that a person calls, and a warning for one that a server calls: see
// [Command.Tolerant].
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"walkeep/common/codec"
)

// Common are the keys that every program knows.
type Common struct {
	File    string `short:"c" long:"config" value-name:"FILE" no-ini:"true" description:"configuration file (else $WALKEEP_CONFIG, else /etc/walkeep/walkeep.ini where it exists)"`
	Spool   string `long:"spool" value-name:"DIR" description:"directory that holds the archive; it must exist"`
	Verbose bool   `short:"v" long:"verbose" description:"also report each step"`
	Quiet   bool   `short:"q" long:"quiet" description:"print errors only"`
	Version bool   `long:"version" no-ini:"true" description:"print the version and exit"`
}

// Compression is how WAL and backups are compressed.
type Compression struct {
	Codec string `long:"codec" value-name:"NAME" description:"how to compress: zstd, s2, lz4, gzip or none"`
	Level int    `long:"level" value-name:"N" description:"compression level: zstd 1-22, s2 1-3, lz4 1-10, gzip 1-9"`
}

// Archive is how archive-cmd stores.
type Archive struct {
	Lookahead  int    `long:"lookahead" value-name:"N" description:"also archive up to N of the next waiting files, on all cores; 0 for none"`
	Verify     string `long:"verify" value-name:"HOW" description:"segments with broken records: warn (archive and mark them), strict (refuse them) or off (do not check)"`
	SpoolLimit Size   `long:"spool-limit" value-name:"SIZE" description:"fail if the spool would grow over this size, such as 200GB"`
}

// Encryption is for whom WAL and backups are encrypted.
type Encryption struct {
	RecipientsFile string `long:"recipients-file" value-name:"FILE" description:"encrypt WAL segments and backups for the public keys of age in this file, one in each line"`
}

// Decryption is how encrypted WAL and backups are read.
type Decryption struct {
	IdentityFile           string `long:"identity-file" value-name:"FILE" description:"read what is encrypted with the private keys of age in this file"`
	IdentityPassphraseFile string `long:"identity-passphrase-file" value-name:"FILE" description:"file that holds the passphrase of the private keys, where they have one"`
}

// Restore is how restore-cmd delivers.
type Restore struct {
	RetryTime time.Duration `long:"retry-time" value-name:"TIME" description:"how long to retry while the archive cannot be read"`
}

// Prefetch is how much WAL is fetched ahead of servers that recover.
type Prefetch struct {
	Ahead Size `long:"prefetch" value-name:"SIZE" description:"how much WAL to fetch from repositories ahead of a server that recovers, expanded, such as 256MB; 0 for none"`
}

// Server is the PostgreSQL server that the supervisor works for.
type Server struct {
	Conninfo string `long:"conninfo" value-name:"DSN" description:"how to reach the server: libpq keywords or a URL (else the PG* variables, service and password files)"`
	PGData   string `long:"pgdata" value-name:"DIR" description:"the server's data directory, where it is on this host"`
	Bindir   string `long:"bindir" value-name:"DIR" description:"directory of PostgreSQL's programs (else found in the PATH or the usual places)"`
}

// Backup is how base backups are taken.
type Backup struct {
	From           string        `long:"backup-from" value-name:"HOW" description:"how the server's files are read: files, from its data directory on this host by several readers; stream, over the replication protocol; or auto, files where that is possible"`
	Checkpoint     string        `long:"checkpoint" value-name:"HOW" description:"how the server begins: fast, or spread over its checkpoint interval"`
	PageErrors     string        `long:"page-errors" value-name:"WHAT" description:"what to do if page checksums are wrong on the server: fail, or warn and mark the backup, which restore then uses only if it is told to accept page errors"`
	MaxRate        Size          `long:"max-rate" value-name:"SIZE" description:"bytes per second that are read from the server at most, such as 50MB; 0 for no limit"`
	ArchiveTimeout time.Duration `long:"archive-timeout" value-name:"TIME" description:"how long to wait until the WAL that a backup needs is in the archive"`
}

// Stream is how the segment that is being written is streamed.
type Stream struct {
	Slot          string        `long:"slot" value-name:"NAME" description:"physical replication slot; it is created if it is missing"`
	FlushInterval time.Duration `long:"flush-interval" value-name:"TIME" description:"make streamed WAL durable at least this often; this bounds how much is lost with the primary"`
	PartialPlain  bool          `long:"partial-plain" description:"stream although recipients-file is given: the segment that is being written is in the spool without encryption until it is complete"`
	Synchronous   bool          `long:"synchronous" description:"make streamed WAL durable at once; for a server that names walkeep in synchronous_standby_names, so that nothing is lost"`
}

// Ship is how the spool is shipped to the repositories.
type Ship struct {
	PartialInterval time.Duration `long:"partial-interval" value-name:"TIME" description:"how often what was streamed of the segment that is being written is shipped; 0 for never"`
	SpoolKeep       Size          `long:"spool-keep" value-name:"SIZE" description:"how much of the newest WAL stays in the spool after all repositories hold it, such as 1GB"`
}

// Standby is how a standby gets on with its primary.
type Standby struct {
	PrimaryConninfo string `long:"primary-conninfo" value-name:"DSN" description:"how the standby reaches its primary: to stream from it, and to check before a promotion that it is down"`
	BackupAfter     bool   `long:"backup-after-promote" description:"take a base backup after a promotion"`
}

// Effort is how much is done at the same time.
type Effort struct {
	Jobs int `long:"jobs" value-name:"N" description:"cores to use at most; 0 for all"`
}

// Retention is the policy of cleanup. Without a rule it keeps all backups.
type Retention struct {
	KeepBackups int `long:"keep-backups" value-name:"N" description:"keep the newest N full backups, and the WAL from the oldest of them on; 0 for no such rule"`
	KeepDays    int `long:"keep-days" value-name:"D" description:"keep what is needed to recover to any time in the last D days; 0 for no such rule"`
}

// Schedule is the schedule of the service. Each value is a cron expression of five fields, or @daily and the like; an
// empty one means never.
type Schedule struct {
	BackupSchedule     string `long:"backup-schedule" value-name:"CRON" description:"when to take a full backup, such as '0 2 * * *'"`
	CleanupSchedule    string `long:"cleanup-schedule" value-name:"CRON" description:"when to remove what the retention rules do not keep"`
	VerifySchedule     string `long:"verify-schedule" value-name:"CRON" description:"when to look for gaps and missing files"`
	DeepVerifySchedule string `long:"deep-verify-schedule" value-name:"CRON" description:"when to re-read and check every stored byte"`
	DrillSchedule      string `long:"drill-schedule" value-name:"CRON" description:"when to restore the newest backup into a scratch directory and test it"`
	DrillDir           string `long:"drill-dir" value-name:"DIR" description:"where drills create their scratch directories (else TMPDIR, or the user's home directory)"`
	Streaming          bool   `long:"stream" description:"stream the segment that is being written, as the command sync does"`
	MetricsListen      string `long:"metrics-listen" value-name:"ADDRESS" description:"serve a page for people and Prometheus metrics at this address, such as 127.0.0.1:9187 (else nowhere)"`
}

// Config is the whole of it.
type Config struct {
	Common
	Compression
	Archive
	Encryption
	Decryption
	Restore
	Prefetch
	Repos
	Server
	Backup
	Stream
	Ship
	Standby
	Effort
	Retention
	Schedule
}

// Default returns the defaults.
func Default() Config {
	return Config{
		Compression: Compression{Codec: codec.Default},
		Archive:     Archive{Lookahead: 24, Verify: "warn"},
		Restore:     Restore{RetryTime: 5 * time.Second},
		Prefetch:    Prefetch{Ahead: 256 << 20},
		Backup:      Backup{From: "auto", Checkpoint: "fast", PageErrors: "fail", ArchiveTimeout: 2 * time.Minute},
		Stream:      Stream{Slot: "walkeep", FlushInterval: 50 * time.Millisecond},
		Ship:        Ship{PartialInterval: 10 * time.Second, SpoolKeep: 1 << 30},
	}
}

const section = "walkeep"

// parts are the structs of c, each with keys that belong together.
func (c *Config) parts() []any {
	return []any{
		&c.Common, &c.Compression, &c.Archive, &c.Encryption, &c.Decryption, &c.Restore, &c.Prefetch, &c.Repos, &c.Server, &c.Backup, &c.Stream, &c.Ship, &c.Standby, &c.Effort, &c.Retention, &c.Schedule,
	}
}

// Load fills c, which holds the defaults, from the file and the environment. file is that of the option --config. Whatever
// is wrong in them is an error.
func (c *Config) Load(file string) error {
	l := loader{own: c.parts()}
	if err := l.readFile(c, file); err != nil {
		return err
	}
	if err := l.readEnvironment(c); err != nil {
		return err
	}
	return l.readRepository(c)
}

// Find returns the path of the configuration file, given the value of the option --config, and whether the option or
// WALKEEP_CONFIG names it.
func Find(file string) (path string, wanted bool) {
	if file != "" {
		return file, true
	}
	if file = os.Getenv("WALKEEP_CONFIG"); file != "" {
		return file, true
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "walkeep", "walkeep.ini"), false
	}
	return "/etc/walkeep/walkeep.ini", false
}

// configured reports whether there is a configuration file or an environment variable of walkeep.
func configured(file string) bool {
	path, wanted := Find(file)
	if _, err := os.Stat(path); wanted || !errors.Is(err, os.ErrNotExist) {
		return true
	}
	return inEnvironment(prefix)
}

// inEnvironment reports whether there is a variable whose name begins so.
func inEnvironment(prefix string) bool {
	return slices.ContainsFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, prefix) })
}

// prefix is that of the names of environment variables.
const prefix = "WALKEEP_"

// IsSlot reports whether a replication slot can have this name (ReplicationSlotValidateName in
// src/backend/replication/slot.c).
func IsSlot(name string) bool {
	const letters = "abcdefghijklmnopqrstuvwxyz0123456789_"
	return 0 < len(name) && len(name) < 64 && strings.Trim(name, letters) == ""
}

// The smallest and the largest rate that BASE_BACKUP accepts, in bytes per second.
const minRate, maxRate = 32 << 10, 1 << 30

// ErrNoSpool says that the configuration is valid, except that it names no spool.
var ErrNoSpool = errors.New("no spool is given: say where the archive is with --spool DIR, or spool = DIR in the configuration file")

// Validate checks the whole of it.
func (c *Config) Validate() error {
	l := loader{own: c.parts()}
	return l.check(c)
}

// A checked part of the configuration has values that can be wrong although they can be read.
type checked interface{ check() error }

func (c *Compression) check() error {
	co, err := codec.ByName(c.Codec)
	if err == nil && c.Level != 0 {
		err = codec.CheckLevel(co, c.Level)
	}
	return err
}

func (a *Archive) check() error {
	switch {
	case a.Lookahead < 0 || a.Lookahead > 1024:
		return fmt.Errorf("lookahead is 0 to 1024, not %d", a.Lookahead)
	case a.Verify != "warn" && a.Verify != "strict" && a.Verify != "off":
		return fmt.Errorf("verify is warn, strict or off, not %q", a.Verify)
	case a.SpoolLimit < 0:
		return errors.New("spool-limit is negative")
	}
	return nil
}

func (r *Restore) check() error {
	if r.RetryTime < 0 || r.RetryTime > time.Hour {
		return fmt.Errorf("retry-time is 0 to 1h, not %s", r.RetryTime)
	}
	return nil
}

func (p *Prefetch) check() error {
	if p.Ahead < 0 || p.Ahead > 1<<40 {
		return errors.New("prefetch is 0 to 1TB")
	}
	return nil
}

func (b *Backup) check() error {
	switch {
	case b.From != "files" && b.From != "stream" && b.From != "auto":
		return fmt.Errorf("backup-from is files, stream or auto, not %q", b.From)
	case b.Checkpoint != "fast" && b.Checkpoint != "spread":
		return fmt.Errorf("checkpoint is fast or spread, not %q", b.Checkpoint)
	case b.PageErrors != "fail" && b.PageErrors != "warn":
		return fmt.Errorf("page-errors is fail or warn, not %q", b.PageErrors)
	case b.MaxRate != 0 && (b.MaxRate < minRate || b.MaxRate > maxRate):
		return errors.New("max-rate is 32kB to 1GB, or 0 for no limit")
	case b.ArchiveTimeout <= 0:
		return fmt.Errorf("archive-timeout is a time such as 2m, not %s", b.ArchiveTimeout)
	}
	return nil
}

func (s *Stream) check() error {
	switch {
	case !IsSlot(s.Slot):
		return fmt.Errorf("slot is 1 to 63 lower case letters, digits and underscores, not %q", s.Slot)
	case s.FlushInterval < 0 || s.FlushInterval > time.Minute:
		return fmt.Errorf("flush-interval is 0 to 1m, not %s", s.FlushInterval)
	}
	return nil
}

func (s *Ship) check() error {
	switch {
	case s.SpoolKeep < 0:
		return errors.New("spool-keep is negative")
	case s.PartialInterval < 0 || s.PartialInterval > time.Hour || s.PartialInterval > 0 && s.PartialInterval < time.Second:
		return fmt.Errorf("partial-interval is 1s to 1h, or 0, not %s", s.PartialInterval)
	}
	return nil
}

func (e *Effort) check() error {
	if e.Jobs < 0 || e.Jobs > 1024 {
		return fmt.Errorf("jobs is 0 to 1024, not %d", e.Jobs)
	}
	return nil
}

func (r *Retention) check() error {
	if r.KeepBackups < 0 || r.KeepDays < 0 || r.KeepDays > 100_000 {
		return errors.New("keep-backups and keep-days are not negative, and keep-days is at most 100000")
	}
	return nil
}

// Size is a number of bytes, written as PostgreSQL does: 1024kB, 200GB. A number alone counts bytes.
type Size int64

var units = []struct {
	name  string
	bytes int64
}{{"kB", 1 << 10}, {"MB", 1 << 20}, {"GB", 1 << 30}, {"TB", 1 << 40}, {"B", 1}}

// UnmarshalFlag reads a size.
func (s *Size) UnmarshalFlag(text string) error {
	number, unit := strings.TrimSpace(text), int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, unit = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return fmt.Errorf("%q is not a size such as 512MB or 200GB", text)
	}
	*s = Size(n * unit)
	return nil
}

// MarshalFlag is the inverse of UnmarshalFlag.
func (s Size) MarshalFlag() (string, error) { return strconv.FormatInt(int64(s), 10), nil }
