package main_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
)

func (r *rig) traced(strace []string) func(*exec.Cmd) *exec.Cmd {
	return func(cmd *exec.Cmd) *exec.Cmd { return cmdtest.Traced(r.t, cmd, strace...) }
}

// trace starts sync below strace, which writes what it does with files and connections to a file.
func (r *rig) trace(c *pgtest.Cluster, to, inject string, args ...string) *streamer {
	r.t.Helper()
	// Only the program itself: archive-cmd has tests of its own. With -D it is our child, and not strace's.
	strace := []string{"-D", "-f", "-qq", "-y", "-x", "-s", "64", "-o", to, "-e", "trace=pwrite64,write,fsync,fdatasync,ftruncate,execve", "-e", "signal=none"}
	if inject != "" {
		strace = append(strace, "-e", "inject="+inject)
	}
	return r.launch(c, r.traced(strace), args)
}

// A file of partial/, as a disk would have it that keeps only what it must.
type traced struct {
	written int64 // from the beginning on, without a hole; what an fsync that failed may have lost is not counted
	durable int64
}

// A verdict is what a trace shows.
type verdict struct {
	reports, fsyncs, failed int
	wrong                   []string
}

var (
	tracedLine = regexp.MustCompile(`^(\d+) +(?:<\.\.\. (\w+) resumed>)?(.*)\n$`)
	tracedFile = regexp.MustCompile(`^\w+\(\d+<[^>]*/partial/([0-9A-F]{24})\.partial>`)
	tracedHex  = regexp.MustCompile(`"((?:\\x[0-9a-f]{2})+)"`)
	tracedEnd  = regexp.MustCompile(`, (\d+)\) += (-?\d+)`)
)

// judgeTrace follows what was written and fsynced, and holds each position that was reported as flushed against it.
func judgeTrace(t *testing.T, path string, size int64) (v verdict) {
	t.Helper()
	trace, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]*traced)
	begun := make(map[string]string)   // by process, the first part of a call's line
	snapshot := make(map[string]int64) // by process, what was written when its fsync began
	for line := range strings.Lines(string(trace)) {
		m := tracedLine.FindStringSubmatch(line)
		if m == nil { // the last may be still in the making
			continue
		}
		pid, resumed, text := m[1], m[2] != "", m[3]
		if resumed {
			text = begun[pid] + text
		}
		unfinished := strings.HasSuffix(text, "<unfinished ...>")
		if unfinished {
			text = strings.TrimSpace(strings.TrimSuffix(text, "<unfinished ...>"))
			begun[pid] = text
		}
		file := ""
		if m := tracedFile.FindStringSubmatch(text); m != nil {
			file = m[1]
		}
		call, _, _ := strings.Cut(text, "(")
		switch {
		case call == "write" && file == "" && !resumed: // at its beginning: the server may have it at once
			v.report(text, files, size)
		case file == "":
		case call == "fsync" || call == "fdatasync":
			if files[file] == nil {
				files[file] = new(traced)
			}
			x := files[file]
			if !resumed {
				snapshot[pid] = x.written
			}
			if unfinished {
				continue
			}
			if v.fsyncs++; strings.Contains(text, "= 0") {
				x.durable = max(x.durable, snapshot[pid])
			} else {
				v.failed++
				x.written = x.durable
			}
		case unfinished:
		case call == "pwrite64":
			m := tracedEnd.FindStringSubmatch(text)
			if m == nil {
				v.wrong = append(v.wrong, "cannot read "+text)
				continue
			}
			if files[file] == nil { // what is found is written once more
				files[file] = new(traced)
			}
			at, _ := strconv.ParseInt(m[1], 10, 64)
			n, _ := strconv.ParseInt(m[2], 10, 64)
			if x := files[file]; at <= x.written && n > 0 {
				x.written = max(x.written, at+n)
			}
		case call == "ftruncate":
			m := tracedEnd.FindStringSubmatch(text)
			if m == nil {
				continue
			}
			to, _ := strconv.ParseInt(m[1], 10, 64)
			if files[file] == nil { // the file as it was found
				files[file] = &traced{written: to}
			}
			x := files[file]
			x.written, x.durable = min(x.written, to), min(x.durable, to)
		}
	}
	return v
}

// report judges a standby status update: a CopyData message of 38 bytes that begins with r.
func (v *verdict) report(text string, files map[string]*traced, size int64) {
	m := tracedHex.FindStringSubmatch(text)
	if m == nil {
		return
	}
	var b []byte
	for _, hex := range strings.Split(m[1][2:], `\x`) {
		n, _ := strconv.ParseUint(hex, 16, 8)
		b = append(b, byte(n))
	}
	if len(b) < 39 || b[0] != 'd' || binary.BigEndian.Uint32(b[1:]) != 38 || b[5] != 'r' {
		return
	}
	v.reports++
	flushed := binary.BigEndian.Uint64(b[14:])
	within := int64(flushed % uint64(size))
	name := wal.SegmentAt(1, wal.LSN(flushed), wal.SegmentSize(size)).String()
	if within == 0 { // the end of the one before; the file of the next has just been made
		name, within = wal.SegmentAt(1, wal.LSN(flushed-1), wal.SegmentSize(size)).String(), size
	}
	x := files[name]
	if x == nil && within == size {
		return // it was complete before this run
	}
	if x == nil || x.durable < within {
		v.wrong = append(v.wrong, fmt.Sprintf("%s was reported, of whose segment %s no more than %+v is durable", wal.LSN(flushed), name, x))
	}
}

// Nothing is reported as flushed before it is.
func TestSyncReportsAfterFsync(t *testing.T) {
	t.Parallel()
	cmdtest.NeedStrace(t)
	for name, args := range map[string][]string{"interval": nil, "always": {"--synchronous"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 15)
			c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
			log := filepath.Join(r.dir, "trace")
			for range 2 { // the second continues with what the first leaves
				sync := r.trace(c, log, "", args...)
				r.streaming(c)
				r.writeWhile(c, func() {
					r.until("reports and fsyncs", func() bool {
						v := judgeTrace(t, log, 1<<20)
						return v.reports >= 20 && v.fsyncs >= 20
					})
				})
				r.flushed(c)
				sync.stop()
				v := judgeTrace(t, log, 1<<20)
				for _, wrong := range v.wrong {
					t.Error(wrong)
				}
				t.Logf("%d reports, %d fsyncs", v.reports, v.fsyncs)
			}
		})
	}
}

// After an fsync that failed nothing is reported that was not written again, and the stream continues by itself.
func TestSyncFsyncFails(t *testing.T) {
	t.Parallel()
	cmdtest.NeedStrace(t)
	// Of each thread's calls, and again and again: the one that fails may be of a directory, and not of a partial segment.
	for _, when := range []string{"4+23", "7+5", "12+31"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, 15)
			c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
			log := filepath.Join(r.dir, "trace")
			sync := r.trace(c, log, "fsync:error=EIO:when="+when)
			r.writeWhile(c, func() {
				sync.says("input/output error")
				r.until("an fsync of a partial segment that fails", func() bool { return judgeTrace(t, log, 1<<20).failed > 0 })
				time.Sleep(time.Second) // for what is reported next
			})
			if when != "7+5" { // which leaves it to chance whether it gets on
				r.flushed(c)
			}
			sync.stop()
			v := judgeTrace(t, log, 1<<20)
			t.Logf("%d reports, %d fsyncs, %d of which failed", v.reports, v.fsyncs, v.failed)
			for _, wrong := range v.wrong {
				t.Error(wrong)
			}
			sync = r.sync(c)
			end := r.flushed(c)
			r.settled()
			sync.stop()
			r.compare(c, 1, end)
		})
	}
}

// The stream stores what a server had sent before it was lost, also when the stream is just sending a report.
func TestSyncTakesWhatWasSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	sync := r.sync(c)
	r.flushed(c)
	r.must(sync.cmd.Process.Signal(syscall.SIGSTOP))
	r.write(c, 10, 5000) // for which there is room on the way
	text, err := c.QueryString(r.ctx(), "SELECT pg_current_wal_flush_lsn()")
	r.must(err)
	r.must(c.WaitFor(r.ctx(), pgtest.Timeout, "all to be sent", func(ctx context.Context) (bool, error) {
		n, err := c.QueryInt(ctx, "SELECT count(*) FROM pg_stat_replication JOIN pg_stat_activity USING (pid) WHERE sent_lsn >= $1::pg_lsn AND wait_event = 'WalSenderMain'", text)
		return n == 1, err
	}))
	time.Sleep(6 * time.Second) // it reports every five
	r.must(c.Kill())
	r.must(sync.cmd.Process.Signal(syscall.SIGCONT))
	sync.says("the stream has ended")
	sync.stop()
	end, err := wal.ParseLSN(text)
	r.must(err)
	r.holds(end)
}

// Where the file system of the spool has no locks, a stream checks whether another one is at work there before it writes.
func TestSyncWithoutLocks(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.MaxMajor)
	c := r.start("primary", nil)
	first := r.sync(c)
	r.flushed(c)
	r.noted()
	strace := []string{"-f", "-qq", "-o", os.DevNull, "-e", "trace=flock", "-e", "inject=flock:error=EOPNOTSUPP", "-e", "signal=none"}
	second := cmdtest.Traced(t, r.command("sync", "--slot", "other", "--conninfo", c.ConnString()), strace...)
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "has no locks") || !strings.Contains(string(out), "another supervisor streams into this archive: that with slot walkeep") {
		t.Errorf("a second stream: %v\n%s", err, out)
	}
	first.stop()
	alone := r.launch(c, r.traced(append([]string{"-D"}, strace...)), []string{"--slot", "other"})
	alone.says("has no locks")
	r.streaming(c)
	alone.stop()
}

// A disk that is full takes nothing that is not there, and the stream continues when there is space.
func TestSyncDiskFull(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	disk := cmdtest.SmallDisk(t, 6<<20)
	r.must(os.Chmod(disk, 0o777))
	r.spool = filepath.Join(disk, "spool")
	r.mkdir(r.spool)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	sync := r.sync(c)
	r.flushed(c)
	free := cmdtest.FillDisk(t, disk, 1200<<10)
	r.write(c, 4, 500_000)
	sync.says("no space left on device")
	time.Sleep(2 * time.Second)
	reported, err := c.QueryString(r.ctx(), "SELECT restart_lsn FROM pg_replication_slots")
	r.must(err)
	at, err := wal.ParseLSN(reported)
	r.must(err)
	r.holds(at)
	if n := strings.Count(sync.said(), "the stream has ended"); n > 5 {
		t.Errorf("it says %d times that the disk is full:\n%s", n, sync.said())
	}
	free()
	end := r.flushed(c)
	r.settled()
	sync.stop()
	r.compare(c, 1, end)
	r.run("verify")
}

// The service streams, and continues with another interval when it reads its configuration again.
func TestRunStreams(t *testing.T) {
	t.Parallel()
	r := newRig(t, 15)
	c := r.start("primary", r.keepAll(map[string]string{"archive_mode": "off"}))
	settings := fmt.Sprintf("conninfo = %s\nstream = true\n", conninfo(c))
	d := r.daemon(settings)
	d.await(`msg=streaming part=stream slot=walkeep`)
	r.load(c, 10, 1)
	r.flushed(c)
	before := slices.Clone(r.streamedFiles())
	d.configure(settings + "flush-interval = 300ms\n")
	r.writeWhile(c, func() {
		d.must(d.cmd.Process.Signal(syscall.SIGHUP))
		d.await(`msg="configuration reloaded"`)
		d.await(`msg=streaming part=stream slot=walkeep`)
		time.Sleep(500 * time.Millisecond)
	})
	end := r.flushed(c)
	if len(before) == 0 {
		t.Error("nothing was streamed before")
	}
	r.settled()
	d.stop(syscall.SIGTERM)
	r.compare(c, 1, end)
	if !r.streamNote().Ended {
		t.Error("the note does not say that the stream has ended")
	}
}
