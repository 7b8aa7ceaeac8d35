package wal_test

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"walkeep/common/wal"
)

// waldump finds the pg_waldump of a major version: in Debian's place for it, or on the PATH.
func waldump(t *testing.T, major string) string {
	t.Helper()
	for _, p := range []string{"/usr/lib/postgresql/" + major + "/bin/pg_waldump", "pg_waldump"} {
		out, err := exec.Command(p, "--version").Output()
		if err == nil && strings.Contains(string(out), " "+major+".") {
			return p
		}
	}
	t.Skipf("no pg_waldump of PostgreSQL %s on this machine", major)
	return ""
}

var waldumpLSN = regexp.MustCompile(`, lsn: ([0-9A-F]+/[0-9A-F]+), `)

// Where pg_waldump is installed, it is asked: each record that it lists is counted.
func TestWaldump(t *testing.T) {
	for _, major := range majors {
		t.Run(major, func(t *testing.T) {
			program := waldump(t, major)
			for _, n := range names(t, major, wal.KindSegment, wal.KindPartial) {
				b := load(t, major, n.String())
				var records uint64
				var last string
				lines := bufio.NewScanner(bytes.NewReader(runWaldump(t, program, n, b)))
				lines.Buffer(nil, 64<<20) // it prints messages in full
				for lines.Scan() {
					if m := waldumpLSN.FindStringSubmatch(lines.Text()); m != nil {
						records++
						last = m[1]
					}
				}
				r := walk(n, b)
				if r.Records != records || records > 0 && r.Last != lsnOfWaldump(t, last) {
					t.Errorf("%s: got %d records, the last at %s, want %d, %s", n, r.Records, r.Last, records, last)
				}
			}
		})
	}
}

var (
	waldumpTotal = regexp.MustCompile(`(?m)^Total +([0-9]+) `)
	waldumpEnd   = regexp.MustCompile(`WAL statistics between [0-9A-F/]+ and ([0-9A-F/]+):`)
)

// The frames of pages and records are the same in all versions but for the magic, so that pg_waldump 15
// can count the records of the others under its own. It cannot read the images of pages that
// 14 and older write, and says so.
func TestWaldumpFrames(t *testing.T) {
	program := waldump(t, "15")
	for _, major := range majors {
		t.Run(major, func(t *testing.T) {
			compared := 0
			for _, n := range names(t, major, wal.KindSegment) {
				b := bytes.Clone(load(t, major, n.String()))
				r := walk(n, b)
				for page := range slices.Chunk(b, int(r.Header.BlockSize)) {
					if page[1] != 0 {
						page[0], page[1] = 0x10, 0xD1
					}
				}
				out := runWaldump(t, program, n, b, "-z")
				if bytes.Contains(out, []byte("error:")) && r.Header.Major() < 15 {
					continue
				}
				total, end := waldumpTotal.FindSubmatch(out), waldumpEnd.FindSubmatch(out)
				if total == nil || end == nil {
					t.Errorf("%s: %s", n, out)
					continue
				}
				compared++
				want, _ := strconv.ParseUint(string(total[1]), 10, 64)
				if r.Records != want {
					t.Errorf("%s: got %d records, want %d", n, r.Records, want)
				}
				// It counts the rest of the segment to a switch record.
				if want := lsnOfWaldump(t, string(end[1])); !r.Switched && r.End != want {
					t.Errorf("%s: got end %s, want %s", n, r.End, want)
				}
			}
			if compared < 2 {
				t.Errorf("compared %d segments", compared)
			}
		})
	}
}

// runWaldump returns what pg_waldump prints about the segment b.
func runWaldump(t *testing.T, program string, n wal.Name, b []byte, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, n.Segment().String()), b, 0o600); err != nil {
		t.Fatal(err)
	}
	// It fails where the records end before the segment, or go on in one that is not there.
	out, err := exec.Command(program, append(options, "-p", dir, n.Segment().String())...).CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return out
}
