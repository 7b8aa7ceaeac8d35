package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/common/codec"
	"walkeep/common/wal"
	"walkeep/supervisor/report"
)

// large is an archive of two hundred thousand segments, from number first on, and of backups all along. The segments'
// objects are links to one that only has the trailer of the last.
type large struct {
	dir      string
	segments uint64
	first    uint64
	backups  int
}

const (
	size   = wal.DefaultSegmentSize
	system = wal.SystemID(7711122973582134654)
)

func (l large) write(t testing.TB) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	at := func(number uint64) wal.LSN { return wal.LSN(number * uint64(size)) }
	must(os.WriteFile(filepath.Join(l.dir, "archive.json"), fmt.Appendf(nil, `{"version":1,"system_identifier":"%s","segment_size":%d}`, system, size), 0o600))
	end := l.first + l.segments - 1
	trailer := codec.Trailer{
		Codec: "zstd", WALCheck: codec.Intact, ChunkSize: codec.ChunkSize, SystemID: uint64(system),
		Start: uint64(at(end)), End: uint64(at(end)) + 0x1000, Name: wal.SegmentAt(1, at(end), size).String(),
	}
	object, err := trailer.Encode()
	must(err)
	// A file system bounds how many links a file can have.
	const links = 30000
	var to string
	for i := range l.segments {
		n := wal.SegmentAt(1, at(l.first+i), size)
		dir := filepath.Join(l.dir, "wal", fmt.Sprintf("%s%08X", n.Timeline, n.Log))
		if i == 0 || n.Seg == 0 {
			must(os.MkdirAll(dir, 0o700))
		}
		path := filepath.Join(dir, n.String()+".zst")
		if i%links == 0 {
			to = path
			must(os.WriteFile(path, object, 0o600))
			continue
		}
		must(os.Link(to, path))
	}
	for i := range l.backups {
		start := at(l.first+uint64(i)*l.segments/uint64(l.backups)) + 0x28
		began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(i) * 24 * time.Hour)
		m := &backup.Manifest{
			Version: backup.Version, ID: backup.NewID(began, 1), Type: "full", Codec: "zstd", SystemID: system, SegmentSize: size,
			Timeline: 1, Start: start, Stop: start + 0x100, Began: began, Ended: began.Add(time.Hour), Files: 1000, Bytes: 1 << 40,
			Index: backup.Stored{Name: "files.json.zst", Plain: 1, Stored: 1},
		}
		for v := range 100 {
			m.Volumes = append(m.Volumes, backup.Stored{Name: fmt.Sprintf("data-%04d.tar.zst", v+1), Plain: 1 << 30, Stored: 1 << 29, SHA256: fmt.Sprintf("%064x", v)})
		}
		content, err := m.Encode()
		must(err)
		must(os.MkdirAll(filepath.Join(l.dir, backup.Dir(m.ID)), 0o700))
		dir := filepath.Join(l.dir, backup.Dir(m.ID))
		must(os.WriteFile(filepath.Join(dir, backup.ManifestName), content, 0o600))
		must(os.WriteFile(filepath.Join(dir, m.Index.Name), []byte("x"), 0o600))
		for i, v := range m.Volumes { // holes, of the right size
			if i == 0 {
				must(os.WriteFile(filepath.Join(dir, v.Name), nil, 0o600))
				must(os.Truncate(filepath.Join(dir, v.Name), v.Stored))
				continue
			}
			must(os.Link(filepath.Join(dir, m.Volumes[0].Name), filepath.Join(dir, v.Name)))
		}
	}
}

// The commands that look at all of an archive take seconds and little memory for a very large one.
func TestLargeArchive(t *testing.T) {
	cmdtest.Long(t)
	dir, err := os.MkdirTemp("/dev/shm", "walkeep-test-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := large{dir: dir, segments: 200_000, first: 5000, backups: 400}
	l.write(t)
	call := func(args ...string) string {
		t.Helper()
		cmd := cmdtest.Command("supervisor", append([]string{"--spool", dir}, args...)...)
		cmd.Env = append(cmd.Env, "GOMAXPROCS=2") // the same on all machines
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", args[0], err, out)
		}
		// What others do meanwhile must not count, so it is not the time that passes.
		cpu := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		used := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss >> 10 // MB
		t.Logf("%s took %s of CPU and %d MB", args[0], cpu, used)
		// It takes a second or three. The bound leaves room for a slow machine, and none for what grows faster than the archive.
		if cpu > time.Minute || used > 200 {
			t.Errorf("%s: took %s of CPU and %d MB, want a few seconds and at most 200 MB", args[0], cpu, used)
		}
		return string(out)
	}
	var r report.Report
	if err := json.Unmarshal([]byte(call("list", "--json")), &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Backups) != l.backups || len(r.Timelines) != 1 || len(r.Timelines[0].Ranges) != 1 || r.Timelines[0].Ranges[0].Segments != l.segments {
		t.Fatalf("got %d backups and timelines %+v", len(r.Backups), r.Timelines)
	}
	end := wal.LSN((l.first+l.segments-1)*uint64(size)) + 0x1000
	if len(r.Windows) != 1 || r.Windows[0].ToLSN != end.String() || len(r.Windows[0].Backups) != l.backups {
		t.Errorf("got windows %+v, want one to %s", r.Windows, end)
	}
	for _, b := range r.Backups {
		if !b.Restorable {
			t.Fatalf("backup %s: %s", b.ID, b.Reason)
		}
	}
	call("status")
	// The five newest backups are of the last 2,500 segments.
	if out, want := call("cleanup", "--dry-run", "--keep-backups", "5"), "keep 2500 segments"; !strings.Contains(out, want) {
		t.Errorf("cleanup does not say %q:\n%s", want, out)
	}
}
