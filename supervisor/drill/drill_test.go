package drill

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"walkeep/common/backup"
	"walkeep/common/host"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/restore"
)

const size = 1 << 20

// planTo returns a plan from a backup that stops in segment 4 along all WAL of segment 9.
func planTo(kind recovery.TargetKind) recovery.Plan {
	return recovery.Plan{
		Reach: recovery.Reach{
			Backup: &backup.Manifest{ID: "20261128T120000Z", Stop: 4*size + 100, SegmentSize: size}, Timeline: 1,
			To: 10 * size, Last: wal.SegmentAt(1, 9*size, size),
		},
		Target: recovery.Target{Kind: kind},
	}
}

// TestUntil determines the end of replay in a drill from what the WAL does.
func TestUntil(t *testing.T) {
	tablespace := func(start wal.LSN, location string) wal.Change {
		return wal.Change{Start: start, Tablespace: &wal.NewTablespace{OID: 16400, Location: location}}
	}
	lsn := func(at wal.LSN, exclusive bool) *recovery.Target {
		return &recovery.Target{Kind: recovery.ToLSN, LSN: at, Exclusive: exclusive}
	}
	outside, inside := tablespace(6*size, "/srv/ts"), tablespace(5*size, "")
	for _, test := range []struct {
		name    string
		kind    recovery.TargetKind
		changes recovery.Changes
		want    *recovery.Target
		before  *wal.Change
		err     error
	}{
		{"no record", recovery.ToLatest, recovery.Changes{}, nil, nil, nil},
		{"the last record", recovery.ToLatest, recovery.Changes{Last: 7 * size}, lsn(7*size, false), nil, nil},
		{"another target stays", recovery.ToTime, recovery.Changes{Last: 7 * size}, nil, nil, nil},
		{"before a tablespace", recovery.ToTime, recovery.Changes{Tablespaces: []wal.Change{outside}, Last: 7 * size}, lsn(6*size, true), &outside, nil},
		{"before the first tablespace", recovery.ToLatest, recovery.Changes{Tablespaces: []wal.Change{inside, outside, tablespace(7*size, "/srv/more")}}, lsn(6*size, true), &outside, nil},
		{"a tablespace in the data directory", recovery.ToTime, recovery.Changes{Tablespaces: []wal.Change{inside}}, nil, nil, nil},
		{"a tablespace while the backup was taken", recovery.ToLatest, recovery.Changes{Tablespaces: []wal.Change{tablespace(4*size, "/srv/ts")}}, nil, nil, ErrOutside},
		{"unknown WAL", recovery.ToTime, recovery.Changes{Last: 7 * size, Unread: &wal.Damage{LSN: 8 * size}}, lsn(7*size, false), nil, nil},
		{"unknown WAL while the backup was taken", recovery.ToTime, recovery.Changes{Last: 3 * size, Unread: &wal.Damage{LSN: 4 * size}}, nil, nil, ErrOutside},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, before, err := Until(planTo(test.kind), test.changes)
			if !errors.Is(err, test.err) || !reflect.DeepEqual(got, test.want) || !reflect.DeepEqual(before, test.before) {
				t.Errorf("got %+v before %+v (%v), want %+v before %+v (%v)", got, before, err, test.want, test.before, test.err)
			}
		})
	}
}

// TestCheckEnd judges where a server has ended its replay. It is in the package because Run starts a server.
func TestCheckEnd(t *testing.T) {
	for _, test := range []struct {
		name string
		plan recovery.Plan
		end  string
		stop bool // replay was to end before a tablespace
		ok   bool
	}{
		{"in the last segment", planTo(recovery.ToLatest), "0/900028", false, true},
		{"at the end of all WAL", planTo(recovery.ToLatest), "0/A00000", false, true},
		{"where the last segment begins", planTo(recovery.ToLatest), "0/900000", false, true},
		{"before the last segment", planTo(recovery.ToLatest), "0/8FFFFF", false, false},
		{"before a tablespace", planTo(recovery.ToLatest), "0/500000", true, true},
		{"at a target", planTo(recovery.ToTime), "0/500000", false, true},
		{"nowhere", planTo(recovery.ToLatest), "", false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := &drill{Options: Options{Restore: restore.Options{Plan: test.plan}}}
			if test.stop {
				d.before = new(wal.Change)
			}
			if err := d.checkEnd(test.end); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestSweep removes scratch directories that nobody uses, and nothing else. It is in the package because Run starts a server.
func TestSweep(t *testing.T) {
	parent := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	here, elsewhere := host.Here(), host.Origin{Host: "db2", Machine: "m2"}
	scratchDir := func(name string, by *host.Origin, age time.Duration) {
		t.Helper()
		dir := filepath.Join(parent, name)
		must(os.MkdirAll(filepath.Join(dir, "data"), 0o700))
		if by != nil {
			text, err := json.Marshal(by)
			must(err)
			must(os.WriteFile(filepath.Join(dir, lockName), text, 0o600))
		}
		at := time.Now().Add(-age)
		must(os.Chtimes(dir, at, at))
	}
	scratchDir("walkeep-drill-killed", &here, 0)
	scratchDir("walkeep-drill-elsewhere", &elsewhere, 24*time.Hour)
	scratchDir("walkeep-drill-new", nil, 0)
	scratchDir("walkeep-drill-old", nil, 2*time.Hour)
	scratchDir("another", nil, 24*time.Hour)
	must(os.WriteFile(filepath.Join(parent, "walkeep-drill-file"), nil, 0o600))
	running, err := newScratch(parent)
	must(err)
	defer running.lock.Close()
	must(sweep(t.Context(), parent, "", func(hint, message string) { t.Errorf("notice: %s", message) }))
	var left []string
	entries, err := os.ReadDir(parent)
	must(err)
	for _, e := range entries {
		left = append(left, e.Name())
	}
	want := []string{"another", "walkeep-drill-elsewhere", "walkeep-drill-file", "walkeep-drill-new", filepath.Base(running.dir)}
	slices.Sort(want)
	if !slices.Equal(left, want) {
		t.Errorf("left: %q, want %q", left, want)
	}
}
