package pgdata_test

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/common/pgdata"
	"walkeep/common/wal"
)

// dataDir makes a data directory with these files, by name.
func dataDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Lines as PostgreSQL's own reader takes them (ParseConfigFp in src/backend/utils/misc/guc-file.l, and parse_bool).
func TestStandbyMode(t *testing.T) {
	for _, test := range []struct {
		conf string
		want bool
	}{
		{"standby_mode = 'on'", true},
		{"standby_mode = on", true},
		{"standby_mode=on", true},
		{"standby_mode on", true},
		{"standby_mode 'on'", true},
		{"standby_mode'on'", true},
		{"standby_mode\t=\t'on'", true},
		{"  standby_mode =on  ", true},
		{"standby_mode = 'on' # a comment", true},
		{"standby_mode = on# a comment", true},
		{"standby_mode = 'on'\r\nrestore_command = 'x'\r\n", true},
		{"STANDBY_MODE = 'ON'", true},
		{"standby_mode = true", true},
		{"standby_mode = 't'", true},
		{"standby_mode = 'TRU'", true},
		{"standby_mode = yes", true},
		{"standby_mode = y", true},
		{"standby_mode = 1", true},
		{"standby_mode = '1'", true},
		{"restore_command = 'x'\n\n# comment\nprimary_conninfo = 'host=a'\nstandby_mode = 'on'\n", true},
		{"standby_mode = off\nstandby_mode = on", true},

		{"", false},
		{"standby_mode = off", false},
		{"standby_mode = 'off'", false},
		{"standby_mode = 'of'", false},
		{"standby_mode = false", false},
		{"standby_mode = no", false},
		{"standby_mode = 0", false},
		{"standby_mode = 'o'", false},
		{"standby_mode = 2", false},
		{"standby_mode = ''", false},
		{"standby_mode =", false},
		{"standby_mode", false},
		{"standby_mode = onward", false},
		{"#standby_mode = on", false},
		{"# standby_mode = on", false},
		{"  #standby_mode = on", false},
		{"standby_mode = 'off' # on", false},
		{"standby_mode = off#on", false},
		{"not_standby_mode = on", false},
		{"standby_mode_not = on", false},
		{"restore_command = 'standby_mode = on'", false},
		{"restore_command = 'x'\ntrigger_file = 'standby_mode'", false},
		{"standby_mode = on\nstandby_mode = off", false},
		{"recovery_target_time = '2026-01-01'", false},
	} {
		dir := dataDir(t, map[string]string{"recovery.conf": test.conf})
		if got := pgdata.Standby(dir); got != test.want {
			t.Errorf("%q: got %t, want %t", test.conf, got, test.want)
		}
	}
}

func TestStandby(t *testing.T) {
	for _, test := range []struct {
		name  string
		files map[string]string
		want  bool
	}{
		{"nothing", nil, false},
		{"standby.signal", map[string]string{"standby.signal": ""}, true},
		{"standby.signal and recovery.signal", map[string]string{"standby.signal": "", "recovery.signal": ""}, true},
		{"recovery.signal", map[string]string{"recovery.signal": ""}, false},
		{"recovery.done", map[string]string{"recovery.done": "standby_mode = on"}, false},
		{"postgresql.conf", map[string]string{"postgresql.conf": "standby_mode = on"}, false},
		{"recovery.conf for a point in time", map[string]string{"recovery.conf": "restore_command = 'x'"}, false},
		{"recovery.conf for a standby", map[string]string{"recovery.conf": "standby_mode = on"}, true},
	} {
		if got := pgdata.Standby(dataDir(t, test.files)); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
	if pgdata.Standby(filepath.Join(t.TempDir(), "missing")) {
		t.Error("a directory that does not exist is a standby's")
	}
}

// control is the beginning of a pg_control file.
func control(id uint64, version uint32) string {
	b := binary.LittleEndian.AppendUint64(nil, id)
	b = binary.LittleEndian.AppendUint32(b, version)
	return string(append(b, make([]byte, 8192-len(b))...))
}

func TestSystemID(t *testing.T) {
	const name = "global/pg_control"
	for _, test := range []struct {
		name  string
		files map[string]string
		want  wal.SystemID
		fails string // what the error says; "" if there is none
	}{
		{"10", map[string]string{name: control(6500000000000000001, 1002)}, 6500000000000000001, ""},
		{"18", map[string]string{name: control(18446744073709551615, 1800)}, 18446744073709551615, ""},
		{"no control file", nil, 0, ""},
		{"empty", map[string]string{name: ""}, 0, "EOF"},
		{"cut off", map[string]string{name: control(1, 1300)[:11]}, 0, "EOF"},
		{"zeros", map[string]string{name: string(make([]byte, 8192))}, 0, "no control file"},
		{"identifier 0", map[string]string{name: control(0, 1300)}, 0, "no control file"},
		{"another byte order", map[string]string{name: control(1, 0x14050000)}, 0, "no control file"},
		{"text", map[string]string{name: "this is not a control file at all"}, 0, "no control file"},
	} {
		got, err := pgdata.SystemID(dataDir(t, test.files))
		if got != test.want || (err == nil) != (test.fails == "") || err != nil && !strings.Contains(err.Error(), test.fails) {
			t.Errorf("%s: got %s, %v, want %s, %q", test.name, got, err, test.want, test.fails)
		}
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	if id, err := pgdata.SystemID(dir); err == nil {
		t.Errorf("a directory in its place: got %s, want an error", id)
	}
}

func TestOf(t *testing.T) {
	for file, want := range map[string]string{
		"pg_wal/000000010000000000000001":         ".",
		"./pg_wal/000000010000000000000001":       ".",
		"/data/pg_wal/000000010000000000000001":   "/data",
		"../data/pg_wal/00000002.history":         "../data",
		"/data/x/../pg_wal/00000002.history":      "/data",
		"/data//pg_wal//000000010000000000000001": "/data",
	} {
		if got := pgdata.Of(filepath.FromSlash(file)); got != filepath.FromSlash(want) {
			t.Errorf("%s: got %s, want %s", file, got, want)
		}
	}
}

// PostgreSQL archives history files first, and the others by name.
func TestReady(t *testing.T) {
	want := []string{
		"00000002.history",
		"0000000A.history",
		"000000010000000000000001",
		"000000010000000000000002",
		"000000010000000000000002.00000028.backup",
		"000000010000000000000002.000000F0.backup",
		"000000010000000000000002.partial",
		"000000010000000000000003",
		"0000000100000000000000FF",
		"000000010000000100000000",
		"000000020000000000000003",
		"0000000A0000000000000001",
	}
	files := make(map[string]string)
	for _, name := range want {
		files["archive_status/"+name+".ready"] = ""
	}
	for _, name := range []string{
		"000000010000000000000004.done", "000000010000000000000005", "000000010000000000000006.ready.tmp", "00000001000000000000000g.ready",
		"000000000000000000000001.ready", "RECOVERYXLOG.ready", ".ready", "00000003.HISTORY.ready", "000000010000000000000007.READY",
		"0000000100000000000000080.ready", " 000000010000000000000009.ready", "00000001000000000000000a.ready",
	} {
		files["archive_status/"+name] = ""
	}
	ready, err := pgdata.Ready(dataDir(t, files))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, n := range ready {
		got = append(got, n.String())
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if ready, err := pgdata.Ready(dataDir(t, map[string]string{"archive_status/x.done": ""})); len(ready) != 0 || err != nil {
		t.Errorf("nothing waits: got %v, %v", ready, err)
	}
	if _, err := pgdata.Ready(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without archive_status: got %v, want ErrNotExist", err)
	}
}

// A control file of a version that is not known, such as that of a release to come or of a beta, is refused: the places of its
// fields are not known. TestPause of the supervisor holds what is read against what servers of all versions read.
func TestControlOfUnknownVersion(t *testing.T) {
	const name = "global/pg_control"
	for _, version := range []uint32{1002, 1100, 1201, 1300, 1700, 1800, 1905} {
		c, err := pgdata.ReadControl(dataDir(t, map[string]string{name: control(7, version)}))
		if err != nil || c.SystemID != 7 {
			t.Errorf("%d: got %+v, %v", version, c, err)
		}
	}
	for _, version := range []uint32{0, 960, 1001, 1200, 1301, 1801, 1904, 1906, 2000, 2001, 9999, 0x14050000} {
		dir := dataDir(t, map[string]string{name: control(7, version)})
		if c, err := pgdata.ReadControl(dir); !errors.Is(err, pgdata.ErrControlVersion) || c != (pgdata.Control{}) {
			t.Errorf("%d: got %+v, %v, want ErrControlVersion", version, c, err)
		}
	}
	// Whose directory it is, is reported by all.
	if id, err := pgdata.SystemID(dataDir(t, map[string]string{name: control(7, 2000)})); err != nil || id != 7 {
		t.Errorf("the cluster of a version to come: got %s, %v", id, err)
	}
}

// Since 19 the copy of the checkpoint is longer, so that what follows it lies elsewhere.
func TestControlOf19(t *testing.T) {
	for version, at := range map[uint32]int{1800: 136, 1905: 144} {
		b := []byte(control(7, version))
		binary.LittleEndian.PutUint64(b[at-8:], 1000) // the counter of made-up positions
		binary.LittleEndian.PutUint64(b[at:], 0x2000028)
		binary.LittleEndian.PutUint32(b[at+8:], 3)
		c, err := pgdata.ReadControl(dataDir(t, map[string]string{"global/pg_control": string(b)}))
		if err != nil || c.MinRecovery != 0x2000028 || c.MinTimeline != 3 {
			t.Errorf("%d: got %+v, %v", version, c, err)
		}
	}
}
