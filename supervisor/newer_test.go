package main_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// newerThan are the words of the warnings.
const newerThan = "newer PostgreSQL than 19"

// toCome changes each page of a segment of the newest release: it gets the magic of a future version, and more info bits.
func toCome(segment []byte, bits uint16) []byte {
	b := slices.Clone(segment)
	for page := 0; page < len(b); page += 8192 {
		if binary.LittleEndian.Uint16(b[page:]) != 0 { // not behind a switch
			binary.LittleEndian.PutUint16(b[page:], 0xD130)
			binary.LittleEndian.PutUint16(b[page+2:], binary.LittleEndian.Uint16(b[page+2:])|bits)
		}
	}
	return b
}

// WAL of a version of PostgreSQL that is not known is archived, verified and delivered as any other, with warnings.
func TestNewerWAL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		edit  func(segment []byte) []byte
		words string // what could not be checked
	}{
		{"as known", func(b []byte) []byte { return toCome(b, 0) }, ""},
		{"unknown flags", func(b []byte) []byte { return toCome(b, 0x0140) }, "page info bits"},
		{"another checksum", func(b []byte) []byte {
			b = toCome(b, 0)
			b[40+20] ^= 0xFF
			return b
		}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := cmdtest.FastDir(t)
			files := make(cmdtest.Files)
			for name, content := range cmdtest.WAL(t, "19") {
				if name < "00000001000000000000000C" && len(name) >= 24 {
					continue // the test data has a gap behind it
				}
				if len(name) == 24 {
					content = test.edit(content)
				}
				files[name] = content
			}
			data := cmdtest.NewDataDir(t, dir, files)
			spool := cmdtest.NewSpool(t, dir)
			for _, name := range files.Names() {
				archived := cmdtest.Run(t, cmdtest.Command("archive-cmd", "--spool", string(spool), "--lookahead", "0", "--verify", "strict", data.Path("pg_wal", name)))
				if len(name) == 24 {
					archived.Expect(t, 0, newerThan, test.words)
				} else {
					archived.Expect(t, 0)
				}
			}
			for _, call := range []string{"list", "verify", "verify --deep"} {
				args := append([]string{"--spool", string(spool)}, strings.Fields(call)...)
				if r := cmdtest.Run(t, cmdtest.Command("supervisor", args...)); r.Code != 0 || strings.Contains(r.Stdout, "damaged") || strings.Contains(r.Stdout, "broken") {
					t.Errorf("%s: got %d\n%s%s", call, r.Code, r.Stdout, r.Stderr)
				} else if call == "verify --deep" && (strings.Count(r.Stdout, newerThan) != 1 || !strings.Contains(r.Stdout, test.words)) {
					t.Errorf("%s does not say once that the WAL is newer:\n%s", call, r.Stdout)
				}
			}
			for _, name := range files.Segments() {
				path := filepath.Join(dir, "delivered")
				cmd := cmdtest.Command("restore-cmd", "--spool", string(spool), name, path)
				cmd.Dir = string(data)
				cmdtest.Run(t, cmd).Expect(t, 0, newerThan)
				if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, files[name]) {
					t.Errorf("%s: not delivered as it was (%v)", name, err)
				}
			}
		})
	}
}

// versioned listens where a server's clients can connect to it as if it were of another version. It gives a conninfo.
func (r *rig) versioned(c *pgtest.Cluster, from, to string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, "versioned")
	r.mkdir(dir)
	const port = 5432
	l, err := net.Listen("unix", filepath.Join(dir, fmt.Sprintf(".s.PGSQL.%d", port)))
	r.must(err)
	r.must(os.Chmod(l.Addr().String(), 0o777))
	r.t.Cleanup(func() { l.Close() })
	at, err := c.QueryString(r.ctx(), "SHOW port")
	r.must(err)
	server := filepath.Join(c.RunDir(), ".s.PGSQL."+at)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				upstream, err := net.Dial("unix", server)
				if err != nil {
					return
				}
				defer upstream.Close()
				go func() {
					io.Copy(upstream, client)
					upstream.Close()
				}()
				b := make([]byte, 64<<10)
				for {
					n, err := upstream.Read(b)
					client.Write(bytes.ReplaceAll(b[:n], []byte(from), []byte(to)))
					if err != nil {
						return
					}
				}
			}()
		}
	}()
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", dir, port)
}

// A server of a version that is not known is backed up, streamed from and restored, with one warning each.
func TestNewerServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	c := r.start("primary", nil)
	number, err := c.QueryString(r.ctx(), "SHOW server_version_num")
	r.must(err)
	const warning = "PostgreSQL 20 is newer than 19"
	once := func(out string, err error, what string) {
		t.Helper()
		if err != nil || strings.Count(out, warning) != 1 {
			t.Errorf("%s: got %v, want one warning\n%s", what, err, out)
		}
	}
	conninfo := r.versioned(c, number, "200000")
	stream := r.sync(c, "--conninfo", conninfo)
	r.until("sync warns", func() bool { return strings.Contains(stream.said(), warning) })
	for _, call := range [][]string{
		{"setup", "--dry-run"}, {"backup"},
	} {
		out, err := r.command(append(call, "--conninfo", conninfo)...).CombinedOutput()
		once(string(out), err, call[0])
	}
	r.run("check", "--conninfo", conninfo)
	r.must(c.Exec(r.ctx(), "CREATE TABLE t AS SELECT generate_series(1, 100)"))
	r.cut(c)
	dir := filepath.Join(r.dir, "copy")
	out, err := r.command("restore", "--target-dir", dir).CombinedOutput()
	once(string(out), err, "restore")
	copied := r.open(dir)
	r.must(copied.Start(r.ctx()))
	r.must(copied.WaitOpen(r.ctx()))
	if n, err := copied.QueryInt(r.ctx(), "SELECT count(*) FROM t"); err != nil || n != 100 {
		t.Errorf("restored: got %d, %v, want 100 rows", n, err)
	}
}

// unchecked is toCome with records that have another kind of checksum, as far as that can be seen: on every page, the bytes
// of the records are changed.
func unchecked(segment []byte) []byte {
	b := toCome(segment, 0)
	for page := 0; page < len(b); page += 8192 {
		for i := page + 40; i < page+8192; i++ {
			b[i] ^= 0xA5
		}
	}
	return b
}

// A target that only the WAL can prove is refused where that WAL is of a version of PostgreSQL that is not known, and the
// refusal says so.
func TestNewerWALTarget(t *testing.T) {
	t.Parallel()
	r, _, _, _ := archived(t, pgtest.MaxMajor)
	stored, err := filepath.Glob(filepath.Join(r.spool, "wal", "*", "*.zst"))
	r.must(err)
	edited := 0
	for _, path := range stored {
		name := strings.TrimSuffix(filepath.Base(path), ".zst")
		if len(name) != 24 {
			continue
		}
		content, err := os.ReadFile(path)
		r.must(err)
		plain, err := cmdtest.Object{Path: path, Ending: ".zst", Stored: content}.Expand()
		r.must(err)
		r.must(os.WriteFile(filepath.Join(filepath.Dir(path), name), unchecked(plain), 0o600))
		r.must(os.Remove(path))
		edited++
	}
	if edited < 2 {
		t.Fatalf("got %d segments in the archive", edited)
	}
	r.give(r.spool)
	dir := filepath.Join(r.dir, "restored")
	for _, target := range [][]string{
		{"--target-time", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, {"--target-xid", "4000000"}, {"--target-name", "here"},
	} {
		r.fails(1, []string{"cannot be recovered", "newer PostgreSQL than this program knows"}, append([]string{"restore", "--target-dir", dir}, target...)...)
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%v: %s was made (%v)", target, dir, err)
		}
	}
}
