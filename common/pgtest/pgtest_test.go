package pgtest_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// TestEveryMajor uses every feature with a cluster of each version.
func TestEveryMajor(t *testing.T) {
	cmdtest.Long(t)
	pgtest.Each(t, func(t *testing.T, major int) {
		ctx := t.Context()
		dir := pgtest.TempDir(t)
		archive := filepath.Join(dir, "archive")
		must(t, pgtest.Mkdir(archive))
		c := pgtest.New(t, pgtest.Options{Major: major, Dir: filepath.Join(dir, "primary"), Checksums: true, Settings: map[string]string{
			"archive_mode":    "on",
			"archive_command": "cp %p " + archive + "/%f",
		}})
		must(t, c.Start(ctx))
		version, err := c.QueryInt(ctx, "SHOW server_version_num")
		must(t, err)
		if got := int(version / 10000); got != major {
			t.Fatalf("server is version %d, want %d", got, major)
		}
		id, err := c.QueryString(ctx, "SELECT system_identifier FROM pg_control_system()")
		must(t, err)
		if want, err := c.SystemID(); err != nil || id != uitoa(want) {
			t.Fatalf("system identifier: got %s, want %d (%v)", id, want, err)
		}

		// A crash loses no acknowledged transaction.
		result, err := c.Load(ctx, pgtest.Load{Transactions: 300, Clients: 2, Accounts: 1000})
		must(t, err)
		if result.Transactions != 300 || result.WALBytes < 100_000 {
			t.Errorf("load: got %+v", result)
		}
		must(t, c.Kill())
		if c.Running() {
			t.Fatal("killed server still runs")
		}
		must(t, c.Start(ctx))
		if !strings.Contains(c.Log(), "database system was not properly shut down") {
			t.Error("no crash recovery after Kill")
		}
		checkLoad(t, c, 300)

		// A backup, and recovery of it up to a point in the middle.
		b, err := c.OnlineBackup(ctx, filepath.Join(dir, "backup"))
		must(t, err)
		_, err = c.Load(ctx, pgtest.Load{Transactions: 200, Seed: 1})
		must(t, err)
		middle := checkLoad(t, c, 500)
		_, err = c.CreateRestorePoint(ctx, "middle")
		must(t, err)
		_, err = c.Load(ctx, pgtest.Load{Transactions: 100, Seed: 2})
		must(t, err)
		last, err := c.SwitchWAL(ctx)
		must(t, err)
		must(t, c.WaitBackupArchived(ctx, b))
		must(t, c.WaitArchived(ctx, last))
		if _, err := os.Stat(filepath.Join(archive, b.StartSegment)); err != nil {
			t.Errorf("the backup's first segment is not in the archive: %v", err)
		}
		restored, err := pgtest.Open(b.Dir)
		must(t, err)
		pgtest.Attach(t, restored)
		restore := "cp " + archive + "/%f %p"
		must(t, restored.Configure(map[string]string{"archive_mode": "off"}))
		must(t, restored.Recover(map[string]string{
			"restore_command":        restore,
			"recovery_target_name":   "middle",
			"recovery_target_action": "promote",
		}))
		must(t, restored.Start(ctx))
		must(t, restored.WaitOpen(ctx))
		if sum := checkLoad(t, restored, 500); sum != middle {
			t.Error("the rows are not those of the restore point")
		}
		must(t, restored.Exec(ctx, "UPDATE load_history SET note = note || '.' WHERE id = 1"))
		if sum := checkLoad(t, restored, 500); sum == middle {
			t.Error("the sum does not depend on each column")
		}
		if timeline, err := restored.Timeline(ctx); err != nil || timeline != 2 {
			t.Errorf("timeline after recovery: got %d (%v), want 2", timeline, err)
		}
		must(t, restored.Stop(ctx, pgtest.Fast))

		// A standby of a cold backup, which follows by streaming and is promoted.
		must(t, c.Restart(ctx))
		must(t, c.Stop(ctx, pgtest.Fast))
		must(t, c.ColdBackup(filepath.Join(dir, "standby")))
		must(t, c.Start(ctx))
		standby, err := pgtest.Open(filepath.Join(dir, "standby"))
		must(t, err)
		pgtest.Attach(t, standby)
		must(t, standby.Configure(map[string]string{"archive_mode": "off", "hot_standby": "on"}))
		must(t, standby.Standby(map[string]string{"primary_conninfo": c.ConnString(), "restore_command": restore}))
		must(t, standby.Start(ctx))
		_, err = c.Load(ctx, pgtest.Load{Transactions: 100, Seed: 3})
		must(t, err)
		lsn, err := c.CurrentLSN(ctx)
		must(t, err)
		must(t, standby.WaitReplayed(ctx, lsn))
		checkLoad(t, standby, 700)
		must(t, standby.Promote(ctx))
		_, err = standby.Load(ctx, pgtest.Load{Transactions: 10, Seed: 4})
		must(t, err)
		must(t, standby.Stop(ctx, pgtest.Immediate))
		must(t, c.Stop(ctx, pgtest.Smart))
	})
}

func TestNoTwoClustersAreTheSame(t *testing.T) {
	a, b := pgtest.New(t, pgtest.Options{}), pgtest.New(t, pgtest.Options{})
	if a.Major != slices.Max(pgtest.Majors()) {
		t.Errorf("default major is %d", a.Major)
	}
	ida, err := a.SystemID()
	must(t, err)
	idb, err := b.SystemID()
	must(t, err)
	if ida == idb || a.ConnString() == b.ConnString() {
		t.Errorf("clusters share identifier or address: %d %d, %s", ida, idb, a.ConnString())
	}
	if age := time.Since(time.Unix(int64(ida>>32), 0)); age < 0 || age > time.Hour {
		t.Errorf("system identifier %d says the cluster is %v old", ida, age)
	}
}

func TestSegmentSizes(t *testing.T) {
	for _, size := range []int{1, 64} {
		c := pgtest.New(t, pgtest.Options{Major: 17, SegmentSizeMB: size})
		must(t, c.Start(t.Context()))
		got, err := c.QueryInt(t.Context(), "SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'")
		must(t, err)
		if got != int64(size)<<20 {
			t.Errorf("segment size: got %d bytes, want %d MB", got, size)
		}
		// Several switches, without anything written between them.
		var names []string
		for range 3 {
			name, err := c.SwitchWAL(t.Context())
			must(t, err)
			names = append(names, name)
		}
		if !slices.IsSorted(names) || len(slices.Compact(slices.Clone(names))) != 3 {
			t.Errorf("switches: got %v", names)
		}
	}
	_, err := pgtest.Init(t.Context(), pgtest.Options{Major: 10, Dir: filepath.Join(pgtest.TempDir(t), "d"), SegmentSizeMB: 1})
	if err == nil {
		t.Error("PostgreSQL 10 took a segment size")
	}
}

func TestTablespaces(t *testing.T) {
	pgtest.Need(t, 15)
	ctx := t.Context()
	dir := pgtest.TempDir(t)
	c := pgtest.New(t, pgtest.Options{Major: 15, Dir: filepath.Join(dir, "c"), Settings: map[string]string{"wal_keep_size": "1GB"}})
	must(t, c.Start(ctx))
	space := filepath.Join(dir, "space")
	must(t, pgtest.Mkdir(space))
	must(t, c.Exec(ctx, "CREATE TABLESPACE s LOCATION '"+space+"'"))
	must(t, c.Exec(ctx, "CREATE TABLE x TABLESPACE s AS SELECT g FROM generate_series(1, 1000) g; CHECKPOINT"))
	b, err := c.OnlineBackup(ctx, filepath.Join(dir, "online"))
	must(t, err)
	if !strings.Contains(b.TablespaceMap, space) {
		t.Errorf("tablespace_map: %q", b.TablespaceMap)
	}
	must(t, c.Stop(ctx, pgtest.Fast))
	must(t, c.ColdBackup(filepath.Join(dir, "cold")))
	must(t, os.RemoveAll(space))
	for name, settings := range map[string]map[string]string{
		"online": {"restore_command": "cp " + c.Path("pg_wal") + "/%f %p"},
		"cold":   nil,
	} {
		restored, err := pgtest.Open(filepath.Join(dir, name))
		must(t, err)
		pgtest.Attach(t, restored)
		if settings != nil {
			must(t, restored.Recover(settings))
		}
		must(t, restored.Start(ctx))
		must(t, restored.WaitOpen(ctx))
		if n, err := restored.QueryInt(ctx, "SELECT count(*) FROM x"); err != nil || n != 1000 {
			t.Errorf("%s backup: got %d rows (%v), want 1000", name, n, err)
		}
	}
}

func TestPgbench(t *testing.T) {
	pgtest.Need(t, 15)
	c := pgtest.New(t, pgtest.Options{Major: 15, TCP: true})
	must(t, c.Start(t.Context()))
	_, err := c.Pgbench(t.Context(), "-i", "-q")
	must(t, err)
	out, err := c.Pgbench(t.Context(), "-t", "20")
	must(t, err)
	if !strings.Contains(out, "number of transactions actually processed: 20/20") {
		t.Error(out)
	}
}

func TestMajors(t *testing.T) {
	t.Setenv("WALKEEP_TEST_MAJORS", "18, 15,15")
	if got := pgtest.Majors(); !slices.Equal(got, []int{15, 18}) {
		t.Errorf("got %v", got)
	}
	t.Setenv("WALKEEP_TEST_MAJORS", "")
	if got := pgtest.Majors(); len(got) != 10 || got[0] != 10 || got[9] != 19 {
		t.Errorf("got %v", got)
	}
	t.Setenv("WALKEEP_TEST_MAJORS", "15,9")
	defer func() {
		if recover() == nil {
			t.Error("version 9 was accepted")
		}
	}()
	pgtest.Majors()
}

func checkLoad(t *testing.T, c *pgtest.Cluster, want int64) (sum string) {
	t.Helper()
	got, sum, err := c.Sum(t.Context())
	if err != nil || got != want {
		t.Fatalf("transactions in the database: got %d, want %d (%v)", got, want, err)
	}
	return sum
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
