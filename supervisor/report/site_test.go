package report_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/codec"
	"walkeep/common/notes"
	"walkeep/common/storage/local"
	"walkeep/common/wal"
)

const site = "../../testdata/site"

// openSite opens the archive in testdata/site. It makes a missing one, which must then be kept: later versions must
// read it.
func openSite(t *testing.T) *archive.Archive {
	t.Helper()
	if _, err := os.Stat(site); errors.Is(err, fs.ErrNotExist) {
		makeSite(t)
	}
	b, err := local.Open(site)
	if err != nil {
		t.Fatal(err)
	}
	return archive.New(b)
}

func makeSite(t *testing.T) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll(site, 0o755))
	b, err := local.Open(site)
	must(err)
	a := archive.New(b)
	c, err := codec.ByName(codec.Default)
	must(err)
	dir := t.TempDir()
	stored, err := filepath.Glob("../../testdata/wal/15/0*.zst")
	must(err)
	for _, file := range stored {
		name := strings.TrimSuffix(filepath.Base(file), ".zst")
		if name == "00000003000000000000001E" { // large
			continue
		}
		packed, err := os.ReadFile(file)
		must(err)
		d, err := zstd.NewReader(bytes.NewReader(packed))
		must(err)
		plain, err := io.ReadAll(d)
		must(err)
		must(os.WriteFile(filepath.Join(dir, name), plain, 0o600))
		_, err = a.NewPusher(archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "0.1.0"}).Push(t.Context(), filepath.Join(dir, name))
		must(err)
	}
	at := time.Date(2026, 11, 22, 22, 0, 0, 0, time.UTC)
	add := func(began time.Time, start, stop wal.LSN) string {
		id, err := a.Identity(t.Context())
		must(err)
		w := volume.NewWriter(b, backup.NewID(began, 1), volume.Options{Codec: c, Workers: 1, Tool: "0.1.0"})
		must(w.Add(t.Context(), &files{at: began, left: []string{"PG_VERSION", "global/pg_control"}}))
		m := &backup.Manifest{
			Type: "full", Server: "15.18 (Debian 15.18-0+deb12u1)", Major: 15, SystemID: id.SystemID, SegmentSize: id.SegmentSize, Timeline: 1, Start: start,
			Stop: stop, Began: began, Ended: began.Add(90 * time.Second), Tablespaces: []backup.Tablespace{},
		}
		must(w.Commit(t.Context(), m))
		return m.ID
	}
	first := add(at, 0x900028, 0x900100)
	second := add(at.Add(24*time.Hour), 0xC00028, 0xC00100)
	must(os.MkdirAll(filepath.Join(site, "backups", "20261124T220000Z"), 0o755)) // left unfinished
	must(os.WriteFile(filepath.Join(site, "backups", "20261124T220000Z", "data-0001.tar.zst"), nil, 0o644))
	must(a.Notes().NoteVerified(t.Context(), first, true, notes.Verified{At: at.Add(time.Hour), Problems: []notes.Problem{}}))
	must(a.Notes().NoteDrill(t.Context(), second, notes.Drilled{At: at.Add(25 * time.Hour), Error: "at start: the server did not start"}))
	must(a.Notes().NoteStandby(t.Context(), notes.Standby{Host: "db2", Machine: "m2", Data: "/srv/pg", Restartpoint: "00000001000000000000000D", Noted: at.Add(26 * time.Hour)}))
	must(a.Notes().NoteStream(t.Context(), notes.Stream{Host: "backup1", Slot: "walkeep", Timeline: 3, Flushed: 0x1100000, Sent: 0x1100400, Heard: at.Add(48 * time.Hour), Synchronous: true}))
	must(os.RemoveAll(filepath.Join(site, "leases")))
}

// files are a backup's source: each contains its own name.
type files struct {
	at   time.Time
	left []string
}

func (f *files) Next() (backup.File, io.Reader, error) {
	if len(f.left) == 0 {
		return backup.File{}, nil, io.EOF
	}
	name := f.left[0]
	f.left = f.left[1:]
	return backup.File{Path: name, Size: int64(len(name)), Mode: 0o600, ModTime: f.at}, strings.NewReader(name), nil
}
