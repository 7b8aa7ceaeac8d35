package main_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

// giant writes a segment of 1 GB as PostgreSQL 15 does that switches WAL after its first record. The file is sparse.
func giant(t *testing.T, dir string, number uint64) string {
	t.Helper()
	const size, recordAt, recordSize = 1 << 30, 40, 24
	start := number * size
	b := binary.LittleEndian
	page := make([]byte, 8192)
	b.PutUint16(page, 0xD110)
	b.PutUint16(page[2:], 2) // a long header
	b.PutUint32(page[4:], 1)
	b.PutUint64(page[8:], start)
	b.PutUint64(page[24:], uint64(system))
	b.PutUint32(page[32:], size)
	b.PutUint32(page[36:], 8192)
	record := page[recordAt : recordAt+recordSize]
	b.PutUint32(record, recordSize)
	b.PutUint64(record[8:], start-size+recordAt)
	record[16] = 0x40 // XLOG_SWITCH of the resource manager XLOG
	b.PutUint32(record[20:], crc32.Checksum(record[:20], crc32.MakeTable(crc32.Castagnoli)))
	file := filepath.Join(dir, wal.SegmentAt(1, wal.LSN(start), size).String())
	cmdtest.Write(t, file, page)
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	return file
}

var peakLine = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// verify --deep reads segments of 1 GB in little memory, on any number of cores.
func TestVerifyLargeSegments(t *testing.T) {
	t.Parallel()
	cmdtest.Long(t)
	r := &rig{t: t, dir: pgtest.TempDir(t)}
	r.spool = filepath.Join(r.dir, "spool")
	r.mkdir(r.spool)
	for number := range uint64(3) {
		file := giant(t, r.dir, 5+number)
		out, err := pgtest.Command(r.ctx(), cmdtest.Path("archive-cmd"), "-c", os.DevNull, "--spool", r.spool, "--codec", "lz4", "--verify", "strict", file).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		r.must(os.Remove(file))
	}
	cmd := r.command("verify", "--deep", "--jobs", "4")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	r.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	peak := 0 // kB
	for running := true; running; {
		select {
		case err := <-ended:
			if err != nil {
				t.Fatalf("verify: %v\n%s", err, &said)
			}
			running = false
		case <-time.After(5 * time.Millisecond):
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
			if m := peakLine.FindSubmatch(status); m != nil {
				now, err := strconv.Atoi(string(m[1]))
				r.must(err)
				peak = max(peak, now)
			}
		}
	}
	if t.Logf("peak: %d MB", peak>>10); peak > 150<<10 {
		t.Errorf("it took %d MB", peak>>10)
	}
}
