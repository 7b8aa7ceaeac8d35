package wal_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// waldump finds the pg_waldump of a major version.
func waldump(t *testing.T, major int) string {
	t.Helper()
	program, err := pgtest.Tool(major, "pg_waldump")
	if err != nil {
		t.Fatal(err)
	}
	return program
}

var waldumpLSN = regexp.MustCompile(`, lsn: ([0-9A-F]+/[0-9A-F]+), `)

// The Walker counts every record that pg_waldump lists, for each version that has a pg_waldump.
func TestWaldump(t *testing.T) {
	for _, number := range pgtest.ToolMajors {
		major := strconv.Itoa(number)
		t.Run(major, func(t *testing.T) {
			program := waldump(t, number)
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
				if err := lines.Err(); err != nil {
					t.Fatal(err)
				}
				r := walk(n, b)
				if records == 0 || r.Records != records || r.Last != lsnOfWaldump(t, last) {
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

// The framing of pages and records is the same in all versions except for the magic and one flag of pages, so the
// pg_waldump of another version can count the records under its own magic. That of 15 reports an error for the images of
// pages that 14 and older write. No pg_waldump of 16 is available; the two versions around it count its records.
func TestWaldumpFrames(t *testing.T) {
	for _, major := range majors {
		t.Run(major, func(t *testing.T) { countFrames(t, major, 15, 0xD110) })
	}
	t.Run("16 by 17", func(t *testing.T) { countFrames(t, "16", 17, 0xD116) })
}

func countFrames(t *testing.T, major string, tool int, magic uint16) {
	program := waldump(t, tool)
	compared := 0
	for _, n := range names(t, major, wal.KindSegment) {
		b := bytes.Clone(load(t, major, n.String()))
		r := walk(n, b)
		for page := range slices.Chunk(b, int(r.Header.BlockSize)) {
			if page[1] != 0 {
				binary.LittleEndian.PutUint16(page, magic)
			}
			if r.Header.Major() >= 19 && page[2]&0x04 != 0 {
				page[2] ^= 0x04 | 0x08 // XLP_FIRST_IS_OVERWRITE_CONTRECORD
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
}

// runWaldump returns what pg_waldump prints about the segment b.
func runWaldump(t *testing.T, program string, n wal.Name, b []byte, options ...string) []byte {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, n.Segment().String()), b, 0o600); err != nil {
		t.Fatal(err)
	}
	// It fails if the records end before the segment does, or continue in a missing one.
	out, err := exec.Command(program, append(options, "-p", dir, n.Segment().String())...).CombinedOutput()
	if _, failed := err.(*exec.ExitError); err != nil && !failed {
		t.Fatal(err)
	}
	return out
}
