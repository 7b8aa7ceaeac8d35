package basebackup_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/storage/flaky"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/basebackup"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
)

const (
	segment         = "000000010000000000000009"
	size            = 1 << 20 // bytes of a segment of the test data
	label           = "START WAL LOCATION: 0/900028 (file 000000010000000000000009)\nSTART TIMELINE: 1\n"
	begin   wal.LSN = 0x900028
	end     wal.LSN = 0x904000
)

// An entry is a file (or, with a slash at the end of its name, a directory, or a link) of a tar archive.
type entry struct {
	name, content, link string
}

// archiveOf writes a tar archive as a server does.
func archiveOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o600, Size: int64(len(e.content)), Typeflag: tar.TypeReg, ModTime: time.Unix(1_700_000_000, 0)}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, e.link, 0
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag, h.Mode = tar.TypeDir, 0o700
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(e.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// base returns a small data directory; its control file comes last.
func base(more ...entry) []entry {
	all := []entry{
		{name: "backup_label", content: label}, {name: "PG_VERSION", content: "15\n"}, {name: "base/"}, {name: "base/1/"},
		{name: "base/1/1249", content: strings.Repeat("a page of a table ", 20_000)}, {name: "global/"}, {name: "pg_tblspc/"}, {name: "pg_wal/"},
	}
	return append(append(all, more...), entry{name: "global/pg_control", content: strings.Repeat("control ", 1024)})
}

// A rig takes a backup of a simulated server into an archive in memory.
type rig struct {
	*replicationtest.Primary
	t       *testing.T
	b       mem.Backend
	a       *archive.Archive
	answer  *replicationtest.Backup
	notices []string
	options basebackup.Options
}

func newRig(t *testing.T, major int) *rig {
	t.Helper()
	files := cmdtest.WAL(t, "15")
	r := &rig{t: t}
	r.a = archive.New(&r.b)
	r.Primary = &replicationtest.Primary{
		Server: replicationtest.Server{Version: fmt.Sprintf("%d.1", major)}, SystemID: wal.SystemID(cmdtest.SystemID(files[segment])),
		SegmentSize: size, Timeline: 1, Flushed: end, ArchiveMode: "on",
	}
	r.answer = &replicationtest.Backup{
		Start: replication.Position{Timeline: 1, LSN: begin}, End: replication.Position{Timeline: 1, LSN: end},
		Archives: []replicationtest.Archive{{Tar: archiveOf(t, base()...)}}, Manifest: []byte(`{"PostgreSQL-Backup-Manifest-Version": 1}`),
	}
	r.Backup = func(s *replicationtest.Session, _ string) { r.answer.Send(s, major) }
	path := filepath.Join(t.TempDir(), segment)
	if err := os.WriteFile(path, files[segment], 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := codec.ByName("zstd")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.a.NewPusher(archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "test"}).Push(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	r.options = basebackup.Options{
		Fast: true, ArchiveTimeout: 20 * time.Second, Codec: c, Workers: 2, Tool: "test", Notice: func(m string) { r.notices = append(r.notices, m) },
	}
	return r
}

func (r *rig) take() (*backup.Manifest, error) {
	r.t.Helper()
	r.Start(r.t)
	r.options.Conninfo = r.Conninfo()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	return basebackup.Take(ctx, r.a, r.options)
}

// fails expects an error with these words, and that nothing of the backup is left.
func (r *rig) fails(words string) error {
	r.t.Helper()
	_, err := r.take()
	if err == nil || !strings.Contains(err.Error(), words) {
		r.t.Errorf("got %v, want an error with %q", err, words)
	}
	left, listed := storage.ListAll(context.Background(), &r.b, "backups/")
	if listed != nil || len(left) != 0 {
		r.t.Errorf("the archive holds %v (%v)", left, listed)
	}
	return err
}

// paths returns the files of a backup.
func (r *rig) paths(m *backup.Manifest) map[string]backup.File {
	r.t.Helper()
	files, err := m.ReadFiles(r.t.Context(), &r.b, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	all := make(map[string]backup.File)
	for _, f := range files {
		all[f.Path] = f
	}
	return all
}

// A backup contains what the server sends, in each version's form.
func TestTake(t *testing.T) {
	for _, major := range []int{12, 13, 14, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			r := newRig(t, major)
			inside := replicationtest.Archive{Tablespace: replication.Tablespace{OID: 16385, Location: "/srv/inside", Bytes: 3 << 20}}
			inside.Tar = archiveOf(t, entry{name: fmt.Sprintf("PG_%d_202209061/", major)}, entry{name: fmt.Sprintf("PG_%d_202209061/5/", major)},
				entry{name: fmt.Sprintf("PG_%d_202209061/5/16390", major), content: strings.Repeat("x", 1<<20+1)})
			empty := replicationtest.Archive{Tablespace: replication.Tablespace{OID: 16386, Location: "/srv/an empty one"}, Tar: archiveOf(t)}
			data := replicationtest.Archive{Tablespace: replication.Tablespace{Bytes: 1 << 20},
				Tar: archiveOf(t, base(entry{name: "pg_tblspc/16385", link: "/srv/inside"}, entry{name: "pg_tblspc/16386", link: "/srv/an empty one"})...)}
			r.answer.Archives = []replicationtest.Archive{inside, empty, data}
			var announced int64
			r.options.Begin = func(bytes int64) { announced = bytes }
			var command string
			send := r.Backup
			r.Backup = func(s *replicationtest.Session, c string) { command = c; send(s, c) }
			m, err := r.take()
			if err != nil {
				t.Fatal(err)
			}
			want := []string{
				"PG_VERSION", "backup_label", "base", "base/1", "base/1/1249", "global", "global/pg_control", "pg_tblspc", "pg_tblspc/16385",
				fmt.Sprintf("pg_tblspc/16385/PG_%d_202209061", major), fmt.Sprintf("pg_tblspc/16385/PG_%d_202209061/5", major),
				fmt.Sprintf("pg_tblspc/16385/PG_%d_202209061/5/16390", major), "pg_tblspc/16386", "pg_wal",
			}
			if major >= 13 {
				want = append(want, "backup_manifest")
				slices.Sort(want)
			}
			files := r.paths(m)
			if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
				t.Errorf("got  %q\nwant %q", got, want)
			}
			if n := files[fmt.Sprintf("pg_tblspc/16385/PG_%d_202209061/5/16390", major)].Size; n != 1<<20+1 {
				t.Errorf("the file of the tablespace has %d bytes", n)
			}
			tablespaces := []backup.Tablespace{{OID: 16385, Location: "/srv/inside"}, {OID: 16386, Location: "/srv/an empty one"}}
			if !slices.Equal(m.Tablespaces, tablespaces) {
				t.Errorf("tablespaces: got %v, want %v", m.Tablespaces, tablespaces)
			}
			if m.Start != begin || m.Stop != end || m.Timeline != 1 || m.Label != label || m.Major != major || m.SystemID != r.SystemID {
				t.Errorf("got %+v", m)
			}
			if announced != 4<<20 {
				t.Errorf("announced were %d bytes", announced)
			}
			if strings.Contains(command, "(") != (major >= 15) || strings.Contains(command, "MANIFEST") != (major >= 13) {
				t.Errorf("the command for version %d is %s", major, command)
			}
		})
	}
}

// A server that disappears during the backup leaves nothing behind, wherever that happens.
func TestServerGoes(t *testing.T) {
	whole := len(archiveOf(t, base()...))
	for _, major := range []int{14, 18} {
		for name, at := range map[string]int{"at once": 0, "in a header": 100, "in a file": whole / 2, "in the control file": whole - 4000, "at the end": whole - 1} {
			t.Run(fmt.Sprintf("%d %s", major, name), func(t *testing.T) {
				r := newRig(t, major)
				r.answer.After, r.answer.Break = at, func(s *replicationtest.Session) { s.HangUp() }
				r.fails("back up")
			})
		}
	}
}

// The same holds for a server that ends the backup with an error. Its message is passed on.
func TestServerFails(t *testing.T) {
	const reason = "could not read from file \"base/1/1249\": Input/output error"
	for _, major := range []int{14, 18} {
		for name, at := range map[string]int{"begin": 0, "middle": 200_000} {
			t.Run(fmt.Sprintf("%d %s", major, name), func(t *testing.T) {
				r := newRig(t, major)
				r.answer.After, r.answer.Break = at, func(s *replicationtest.Session) {
					s.Error("58030", reason)
					s.Ready()
					s.HangUp()
				}
				r.fails(reason)
			})
		}
		t.Run(fmt.Sprintf("%d refused", major), func(t *testing.T) {
			r := newRig(t, major)
			r.Backup = func(s *replicationtest.Session, _ string) {
				s.Error("55000", "WAL level not sufficient for making an online backup")
			}
			r.fails("WAL level not sufficient")
		})
	}
}

// Sizes and parts that contradict each other are errors.
func TestWrongSizes(t *testing.T) {
	longer := archiveOf(t, base()...)
	cut := longer[:len(longer)/2]
	for name, test := range map[string]struct {
		major  int
		change func(*replicationtest.Backup)
		want   string
	}{
		"archive ends in a file 14": {14, func(b *replicationtest.Backup) { b.Archives[0].Tar = cut }, "unexpected EOF"},
		"archive ends in a file 18": {18, func(b *replicationtest.Backup) { b.Archives[0].Tar = cut }, "unexpected EOF"},
		"no tar":                    {18, func(b *replicationtest.Backup) { b.Archives[0].Tar = bytes.Repeat([]byte("text "), 1000) }, "tar"},
		"empty archive":             {18, func(b *replicationtest.Backup) { b.Archives[0].Tar = nil }, "has sent no backup_label"},
		"no label": {18, func(b *replicationtest.Backup) {
			b.Archives[0].Tar = archiveOf(t, base()[1:]...)
		}, "has sent no backup_label"},
		"large label": {18, func(b *replicationtest.Backup) {
			b.Archives[0].Tar = archiveOf(t, entry{name: "backup_label", content: strings.Repeat("x", 1<<20+1)})
		}, "backup_label has 1048577 bytes"},
		"nothing announced":    {18, func(b *replicationtest.Backup) { b.Archives = nil }, "no data directory"},
		"other timeline":       {18, func(b *replicationtest.Backup) { b.End.Timeline = 2 }, "from timeline 1 to 2"},
		"no timeline":          {18, func(b *replicationtest.Backup) { b.Start.Timeline = 0 }, `"0" as a timeline`},
		"ends before it began": {18, func(b *replicationtest.Backup) { b.End.LSN = begin - 8 }, "from 0/900028 to 0/900020"},
		"a device": {18, func(b *replicationtest.Backup) {
			b.Archives[0].Tar = archiveOf(t, base(entry{name: "base/2", link: "/dev/null"})...)
		}, "neither a file nor a directory"},
		"outside": {18, func(b *replicationtest.Backup) {
			b.Archives[0].Tar = archiveOf(t, base(entry{name: "../outside", content: "x"})...)
		}, "cannot be backed up"},
		"two of a name": {18, func(b *replicationtest.Backup) {
			b.Archives[0].Tar = archiveOf(t, base(entry{name: "PG_VERSION", content: "16\n"})...)
		}, "PG_VERSION"},
		"tablespace without a place": {18, func(b *replicationtest.Backup) {
			b.Archives = append(b.Archives, replicationtest.Archive{Tablespace: replication.Tablespace{OID: 7}, Tar: archiveOf(t)})
		}, "tablespace 7"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.major)
			test.change(r.answer)
			r.fails(test.want)
		})
	}
}

// Messages that are not part of a backup are errors.
func TestGarbage(t *testing.T) {
	data := func(b string) func(*replicationtest.Session) {
		return func(s *replicationtest.Session) { s.Send(&pgproto3.CopyData{Data: []byte(b)}) }
	}
	for name, test := range map[string]struct {
		major int
		send  func(*replicationtest.Session)
		want  string
	}{
		"empty":             {18, data(""), "an empty message"},
		"unknown":           {18, data("zebra"), `a message of type 'z'`},
		"not announced":     {18, data("n16999.tar\x00/x\x00"), `an archive "16999.tar" that it has not announced`},
		"name without end":  {18, data("nbase.tar"), `a message of type 'n'`},
		"odd progress":      {18, data("p123"), `a message of type 'p' with 4 bytes`},
		"manifest and more": {18, data("mx"), `a message of type 'm' with 2 bytes`},
		"rows":              {18, func(s *replicationtest.Session) { s.Rows([]any{"a"}) }, "in the middle of the backup"},
		"rows of 14":        {14, func(s *replicationtest.Session) { s.Rows([]any{"a"}) }, "in the middle of the backup"},
		"no message":        {14, func(s *replicationtest.Session) { s.Raw([]byte("GET / HTTP/1.1\r\n\r\n")); s.HangUp() }, "back up"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.major)
			r.answer.After, r.answer.Break = 200_000, test.send
			r.fails(test.want)
		})
	}
}

// A server that finds wrong page checksums reports them as warnings, and as an error after the last file. The backup
// fails, or is taken and marked if an option allows that.
func TestPageErrors(t *testing.T) {
	const warning = `checksum verification failed in file "./base/1/1249", block 3: calculated 1 but expected 2`
	for _, accept := range []bool{false, true} {
		t.Run(fmt.Sprint(accept), func(t *testing.T) {
			r := newRig(t, 15)
			r.options.PageErrors = accept
			r.answer.After, r.answer.Break = 200_000, func(s *replicationtest.Session) { s.Warn(warning) }
			send := r.Backup
			r.Backup = func(s *replicationtest.Session, c string) {
				send(s, c)
				s.Error(replication.DataCorrupted, "checksum verification failure during base backup")
			}
			if !accept {
				if err := r.fails(warning); !errors.Is(err, basebackup.ErrChecksum) {
					t.Errorf("got %v, want %v", err, basebackup.ErrChecksum)
				}
				return
			}
			m, err := r.take()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(m.PageErrors, []string{warning}) || len(r.notices) != 1 {
				t.Errorf("the manifest says %q, the notices %q", m.PageErrors, r.notices)
			}
		})
	}
}

// A backup whose WAL is not archived fails.
func TestNotArchived(t *testing.T) {
	r := newRig(t, 15)
	r.options.ArchiveTimeout = 0
	r.answer.End.LSN = 0xA00100
	if err := r.fails("00000001000000000000000A did not come"); !errors.Is(err, basebackup.ErrNotArchived) {
		t.Errorf("got %v, want %v", err, basebackup.ErrNotArchived)
	}
}

// A server that neither archives nor is streamed from is not asked for a backup.
func TestArchivingOff(t *testing.T) {
	r := newRig(t, 15)
	r.ArchiveMode = "off"
	r.Backup = func(*replicationtest.Session, string) { t.Error("the server was asked for a backup") }
	if err := r.fails("archive_mode is off"); !errors.Is(err, basebackup.ErrArchivingOff) {
		t.Errorf("got %v, want %v", err, basebackup.ErrArchivingOff)
	}
}

// An interrupted backup ends at once, and leaves nothing behind.
func TestInterrupted(t *testing.T) {
	r := newRig(t, 15)
	ctx, interrupt := context.WithCancel(t.Context())
	r.answer.After, r.answer.Break = 200_000, func(s *replicationtest.Session) {
		interrupt()
		s.Receive() // until the client has gone
		s.HangUp()
	}
	r.Start(t)
	r.options.Conninfo = r.Conninfo()
	if _, err := basebackup.Take(ctx, r.a, r.options); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left, err := storage.ListAll(context.Background(), &r.b, "backups/"); err != nil || len(left) != 0 {
		t.Errorf("the archive holds %v (%v)", left, err)
	}
}

// In a repository, a backup removes neither what a killed one has left, nor what it has stored itself when it fails.
func TestAppendOnly(t *testing.T) {
	r := newRig(t, 15)
	store := &flaky.AppendOnly{Backend: &r.b}
	r.a = archive.New(store)
	r.a.AppendOnly = true
	killed := "backups/20200101T000000Z/data-0001.tar.zst"
	if err := storage.PutAll(t.Context(), &r.b, killed, []byte("x")); err != nil {
		t.Fatal(err)
	}
	m, err := r.take()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{killed, "backups/" + m.ID + "/manifest.json"} {
		if _, err := storage.ReadAll(t.Context(), &r.b, name, 1<<20); err != nil {
			t.Error(err)
		}
	}

	r.answer.End.LSN = 1 << 40 // of WAL that never comes
	r.options.ArchiveTimeout = time.Millisecond
	_, err = r.take()
	if !errors.Is(err, basebackup.ErrNotArchived) || !strings.Contains(err.Error(), "stays until cleanup removes it") {
		t.Errorf("got %v", err)
	}
	if dirs, err := storage.ListAll(t.Context(), &r.b, "backups/"); err != nil || len(dirs) != 3 {
		t.Errorf("the archive holds %v (%v)", dirs, err)
	}
	// Only leases are given back, and the store refuses that.
	for _, refused := range store.Refused() {
		if !strings.HasPrefix(refused, "remove leases/") {
			t.Errorf("the store has refused: %s", refused)
		}
	}
	if leases, faults, err := r.a.Notes().Leases(t.Context()); len(leases)+len(faults) > 0 || err != nil {
		t.Errorf("leases: got %v, %v, %v", leases, faults, err)
	}
}

// The error alone makes the backup fail, in case its warnings were lost.
func TestPageErrorsWithoutWarnings(t *testing.T) {
	r := newRig(t, 15)
	send := r.Backup
	r.Backup = func(s *replicationtest.Session, c string) {
		send(s, c)
		s.Error(replication.DataCorrupted, "checksum verification failure during base backup")
	}
	r.fails("checksum verification failure")
}
