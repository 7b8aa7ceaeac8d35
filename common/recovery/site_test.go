package recovery_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"walkeep/common/archive/archivetest"
	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// A site is a server that archives into a directory, whose files are then pushed into a walkeep archive, and the server's
// backups, which can really be recovered.
type site struct {
	*archivetest.Rig
	c       *pgtest.Cluster
	dir     string
	wal     string
	backups map[string]string // data directories by the backups' ids
	pushed  map[string]bool
}

func newSite(t *testing.T, major int) *site {
	t.Helper()
	cmdtest.Long(t)
	dir := pgtest.TempDir(t)
	s := &site{Rig: archivetest.New(t, new(mem.Backend)), dir: dir, wal: filepath.Join(dir, "wal"), backups: map[string]string{}, pushed: map[string]bool{}}
	if err := os.Mkdir(s.wal, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(s.wal, 0o777); err != nil {
		t.Fatal(err)
	}
	size := 1
	if major == 10 {
		size = 0
	}
	s.c = pgtest.New(t, pgtest.Options{Major: major, Dir: filepath.Join(dir, "primary"), SegmentSizeMB: size, Settings: map[string]string{
		// A file has its name when it is complete: some come behind those that are waited for.
		"archive_mode": "on", "archive_command": "cp %p " + s.wal + "/.new && mv " + s.wal + "/.new " + s.wal + "/%f", "max_prepared_transactions": "5", "autovacuum": "off",
	}})
	s.must(s.c.Start(t.Context()))
	return s
}

func (s *site) must(err error) {
	s.T.Helper()
	if err != nil {
		s.T.Fatal(err)
	}
}

func (s *site) exec(statements ...string) {
	s.T.Helper()
	for _, sql := range statements {
		s.must(s.c.Exec(s.T.Context(), sql))
	}
}

func (s *site) query(sql string) string {
	s.T.Helper()
	got, err := s.c.QueryString(s.T.Context(), sql)
	s.must(err)
	return got
}

// now is the server's clock.
func (s *site) now() time.Time {
	s.T.Helper()
	at, err := time.Parse(time.RFC3339Nano, s.query(`SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`))
	s.must(err)
	return at
}

func (s *site) lsn(sql string) wal.LSN {
	s.T.Helper()
	lsn, err := wal.ParseLSN(s.query(sql))
	s.must(err)
	return lsn
}

// switchWAL ends the segment and waits until the archive has it.
func (s *site) switchWAL() {
	s.T.Helper()
	last, err := s.c.SwitchWAL(s.T.Context())
	s.must(err)
	s.must(s.c.WaitArchived(s.T.Context(), last))
	s.collect()
}

// collect pushes what the server has archived.
func (s *site) collect() {
	s.T.Helper()
	files, err := os.ReadDir(s.wal)
	s.must(err)
	p := s.A.NewPusher(archivetest.Options(s.T, "zstd"))
	for _, f := range files {
		if f.Name() == ".new" || s.pushed[f.Name()] {
			continue
		}
		_, err := p.Push(s.T.Context(), filepath.Join(s.wal, f.Name()))
		s.must(err)
		s.pushed[f.Name()] = true
	}
}

// backup copies the data directory, and puts a manifest in the archive that speaks of it.
func (s *site) backup(id string) *backup.Manifest {
	s.T.Helper()
	ctx := s.T.Context()
	began := s.now()
	b, err := s.c.OnlineBackup(ctx, filepath.Join(s.dir, id))
	s.must(err)
	ended := s.now()
	s.must(s.c.WaitBackupArchived(ctx, b))
	s.collect()
	s.backups[id] = b.Dir
	start, err := wal.ParseLSN(b.StartLSN)
	s.must(err)
	stop, err := wal.ParseLSN(b.StopLSN)
	s.must(err)
	identity, err := s.A.Identity(ctx)
	s.must(err)
	first, err := wal.ParseName(b.StartSegment)
	s.must(err)
	m := &backup.Manifest{
		Version: backup.Version, ID: id, Type: "full", Codec: "zstd", SystemID: identity.SystemID, SegmentSize: identity.SegmentSize,
		Timeline: first.Timeline, Start: start, Stop: stop, Began: began, Ended: ended, Files: 1, Bytes: 1, Label: b.Label,
		Volumes: []backup.Stored{{Name: "data-0001.tar.zst", Plain: 1, Stored: 1}}, Index: backup.Stored{Name: "files.json.zst", Plain: 1, Stored: 1},
	}
	putManifest(s.T, s.B, m)
	return m
}

func (s *site) inventory() *recovery.Inventory {
	s.T.Helper()
	inv, err := recovery.ReadInventory(s.T.Context(), s.A)
	s.must(err)
	return inv
}

// settings returns PostgreSQL's settings for a target.
func settings(t recovery.Target) map[string]string {
	set := map[string]string{"recovery_target_inclusive": strconv.FormatBool(!t.Exclusive), "recovery_target_action": "promote"}
	switch t.Kind {
	case recovery.ToImmediate:
		set["recovery_target"] = "immediate"
	case recovery.ToTime:
		set["recovery_target_time"] = t.Time.UTC().Format("2006-01-02 15:04:05.999999+00")
	case recovery.ToXID:
		set["recovery_target_xid"] = fmt.Sprint(t.XID)
	case recovery.ToLSN:
		set["recovery_target_lsn"] = t.LSN.String()
	case recovery.ToName:
		set["recovery_target_name"] = t.Name
	}
	if t.Timeline != 0 {
		set["recovery_target_timeline"] = fmt.Sprint(uint32(t.Timeline))
	}
	return set
}

// recover lets the server recover a copy of a backup, and gives the position at which it left the WAL for a new timeline.
func (s *site) recover(id string, t recovery.Target) (wal.LSN, error) {
	s.T.Helper()
	ctx := s.T.Context()
	c, err := pgtest.Open(s.copyOf(id))
	s.must(err)
	defer c.Close()
	s.must(c.Configure(map[string]string{"archive_mode": "off"}))
	set := settings(t)
	set["restore_command"] = "cp " + s.wal + "/%f %p"
	s.must(c.Recover(set))
	if err := c.Start(ctx); err != nil {
		return 0, err
	}
	if err := c.WaitFor(ctx, pgtest.Timeout, "the end of recovery", func(ctx context.Context) (bool, error) {
		if !c.Running() {
			return true, nil
		}
		open, err := c.QueryString(ctx, "SELECT CASE WHEN pg_is_in_recovery() THEN 'false' ELSE 'true' END")
		return err == nil && open == "true", nil
	}); err != nil {
		return 0, err
	}
	if !c.Running() {
		return 0, pgtest.ErrExited
	}
	tli, err := c.Timeline(ctx)
	s.must(err)
	content, err := os.ReadFile(c.Path("pg_wal/" + wal.Timeline(tli).String() + ".history"))
	s.must(err)
	h, err := wal.ParseHistory(wal.Timeline(tli), content)
	s.must(err)
	s.must(c.Stop(ctx, pgtest.Immediate))
	return h.Begin(), nil
}

// putManifest stores a backup's manifest, and objects of the sizes that it says.
func putManifest(t testing.TB, b storage.Backend, m *backup.Manifest) {
	t.Helper()
	content, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	objects := map[string][]byte{backup.ManifestName: content}
	for _, s := range append([]backup.Stored{m.Index}, m.Volumes...) {
		objects[s.Name] = make([]byte, s.Stored)
	}
	for name, content := range objects {
		if err := b.Replace(t.Context(), backup.Dir(m.ID)+name, content); err != nil {
			t.Fatal(err)
		}
	}
}

// copyOf copies a backup, so that it stays what it is when the copy is started.
func (s *site) copyOf(id string) string {
	s.T.Helper()
	from, err := pgtest.Open(s.backups[id])
	s.must(err)
	dir := filepath.Join(pgtest.TempDir(s.T), "copy")
	s.must(from.ColdBackup(dir))
	return dir
}
