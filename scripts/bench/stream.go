//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// The contestants of streaming: the supervisor as the only archiver of a server, beside archive-cmd, and as the only one that
// makes durable at once what it receives. pg_receivewal runs beside each.
const (
	streamOnly        = "stream"
	streamArchived    = "stream-archived"
	streamSynchronous = "stream-synchronous"
	streamPeer        = "pg_receivewal"
)

func streamNames() []string { return []string{streamOnly, streamArchived, streamSynchronous} }

const (
	streamTime  = 10 * time.Second
	streamRate  = 50_000_000 // bytes per second
	streamBatch = 1_000_000  // bytes of a message
	streamSight = 50 * time.Millisecond
)

// A streamFigure is what one of those that stream took.
type streamFigure struct {
	lag, most     float64 // ms: median and greatest
	cpu, children float64 // percent of a core: its own, and that of what it has started
	peak          float64 // MB, of itself
}

// A streamSample is what a run showed.
type streamSample struct {
	rate          float64 // MB per second that the server wrote
	walkeep, peer streamFigure
}

// A streaming is a program that streams.
type streaming struct {
	cmd           *exec.Cmd
	seen          []sight
	own, children time.Duration // CPU time before the measurement
}

func (p *place) stream(log string, argv ...string) (*streaming, error) {
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", p.environment(), out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.credential(), Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &streaming{cmd: cmd}, nil
}

func (s *streaming) end(how syscall.Signal) {
	_ = s.cmd.Process.Signal(how)
	_ = s.cmd.Wait()
}

// used reads the CPU time of the program until now: its own, and that of the children that it waited for.
func (s *streaming) used() (own, children time.Duration, err error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	const state, utime = 3, 14
	var times [4]time.Duration
	for i, field := range strings.Fields(after(string(stat), ")"))[utime-state : utime-state+len(times)] {
		ticks, err := strconv.Atoi(field)
		if err != nil {
			return 0, 0, err
		}
		times[i] = time.Duration(ticks) * tick
	}
	return times[0] + times[1], times[2] + times[3], nil
}

// begin begins the measurement.
func (s *streaming) begin() (err error) {
	s.seen = nil
	s.own, s.children, err = s.used()
	return err
}

// figure is what the program took since then, of the time that was written.
func (s *streaming) figure(took time.Duration) (f streamFigure, err error) {
	own, children, err := s.used()
	if err != nil {
		return f, err
	}
	f.cpu, f.children = 100*float64(own-s.own)/float64(took), 100*float64(children-s.children)/float64(took)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return f, err
	}
	kb, err := strconv.Atoi(strings.Fields(after(string(status), "VmHWM:"))[0])
	f.peak = float64(kb) * 1024 / 1e6
	all := lags(s.seen)
	f.lag, f.most = median(all), slices.Max(all)
	return f, err
}

// runStream has a server write WAL at a steady rate, while it is streamed from.
func (b *bench) runStream(ctx context.Context, name string, round int) (err error) {
	dir := filepath.Join(b.place.runs, name)
	if err := errors.Join(os.RemoveAll(dir), b.place.mkdir(dir)); err != nil {
		return err
	}
	if !b.keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	a := archive{store: filepath.Join(dir, "store"), aux: filepath.Join(dir, "received"), data: filepath.Join(dir, "data")}
	if err := errors.Join(b.place.mkdir(a.store), b.place.mkdir(a.aux), b.place.initdb(ctx, a.data), settle(nil, archiveMemory)); err != nil {
		return err
	}
	settings := []string{"archive_mode=off", "max_wal_senders=10", "wal_keep_size=0"}
	if name == streamArchived {
		settings = []string{"archive_mode=on", "archive_command=" + b.walkeep.archiveCommand(a, "zstd"), "max_wal_senders=10", "wal_keep_size=0"}
	}
	s, err := b.place.startServer(a.data, settings...)
	if err != nil {
		return err
	}
	defer s.end()
	if _, err := s.ready(ctx); err != nil {
		return s.failed(err)
	}
	conninfo := fmt.Sprintf("host=%s port=5432 user=postgres", b.place.runs)
	call := []string{filepath.Join(b.walkeep.bindir, "supervisor"), "--spool", a.store, "sync", "--conninfo", conninfo}
	if name == streamSynchronous {
		call = append(call, "--synchronous")
	}
	walkeep, err := b.place.stream(filepath.Join(dir, "sync.log"), call...)
	if err != nil {
		return err
	}
	defer walkeep.end(syscall.SIGTERM)
	peer, err := b.place.stream(filepath.Join(dir, "received.log"), filepath.Join(b.place.pgBindir, streamPeer), "-D", a.aux, "-d", conninfo, "--synchronous")
	if err != nil {
		return err
	}
	defer peer.end(syscall.SIGINT)
	sample, err := b.measureStream(ctx, conninfo, walkeep, peer)
	if err != nil {
		return s.failed(err)
	}
	b.streamed[name] = append(b.streamed[name], sample)
	progress("round %d  %s  lag %.0f ms, at most %.0f ms; %.1f %% of a core and %.1f %% in archive-cmd; pg_receivewal: %.0f ms, %.0f ms, %.1f %%",
		round+1, name, sample.walkeep.lag, sample.walkeep.most, sample.walkeep.cpu, sample.walkeep.children, sample.peer.lag, sample.peer.most, sample.peer.cpu)
	if name == streamOnly {
		took, err := b.measurePromotion(ctx, a, s, conninfo)
		if err != nil {
			return s.failed(fmt.Errorf("promote: %w", err))
		}
		b.promoted = append(b.promoted, milliseconds(took))
		progress("round %d  promotion  %.0f ms", round+1, milliseconds(took))
	}
	return nil
}

// measureStream writes for a while and looks where the streams are.
func (b *bench) measureStream(ctx context.Context, conninfo string, walkeep, peer *streaming) (streamSample, error) {
	var sample streamSample
	writer, err := pgx.Connect(ctx, conninfo)
	if err != nil {
		return sample, err
	}
	defer writer.Close(context.WithoutCancel(ctx))
	observer, err := pgx.Connect(ctx, conninfo)
	if err != nil {
		return sample, err
	}
	defer observer.Close(context.WithoutCancel(ctx))
	begun := time.Now()
	look := func() (both bool, err error) {
		var written, ours, theirs *float64
		err = observer.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn() - '0/0', (SELECT flush_lsn - '0/0' FROM pg_stat_replication WHERE application_name = 'walkeep'),
			(SELECT flush_lsn - '0/0' FROM pg_stat_replication WHERE application_name = 'pg_receivewal')`).Scan(&written, &ours, &theirs)
		if err != nil || ours == nil || theirs == nil {
			return false, err
		}
		at := milliseconds(time.Since(begun))
		walkeep.seen = append(walkeep.seen, sight{at, *written, *ours})
		peer.seen = append(peer.seen, sight{at, *written, *theirs})
		return true, nil
	}
	if _, err := writer.Exec(ctx, "SELECT pg_logical_emit_message(true, 'bench', 'begin')"); err != nil {
		return sample, err
	}
	for waited := 0; ; waited++ { // until both stream
		both, err := look()
		if err == nil && waited > 400 {
			err = errors.New("not both stream")
		}
		if err != nil {
			return sample, err
		}
		if n := len(peer.seen); both && peer.seen[n-1].durable >= peer.seen[n-1].written && walkeep.seen[n-1].durable >= peer.seen[n-1].written {
			break
		}
		time.Sleep(streamSight)
	}
	if err := errors.Join(walkeep.begin(), peer.begin()); err != nil {
		return sample, err
	}
	begun = time.Now()
	written := make(chan error, 1)
	go func() { written <- write(ctx, writer, begun) }()
	tick := time.NewTicker(streamSight)
	defer tick.Stop()
	for err == nil {
		select {
		case err = <-written:
			if err == nil {
				err = errWritten
			}
		case <-tick.C:
			_, err = look()
		}
	}
	if err != errWritten {
		return sample, err
	}
	took := time.Since(begun)
	if _, err := look(); err != nil {
		return sample, err
	}
	n := len(walkeep.seen) - 1
	sample.rate = (walkeep.seen[n].written - walkeep.seen[0].written) / 1000 / (walkeep.seen[n].at - walkeep.seen[0].at)
	time.Sleep(8 * time.Second) // archive-cmd's last calls belong to it, and the server's archiver is given some seconds before
	if sample.walkeep, err = walkeep.figure(took); err != nil {
		return sample, err
	}
	sample.peer, err = peer.figure(took)
	return sample, err
}

var errWritten = errors.New("all is written")

// write makes WAL at the rate, in messages of text that compresses to half.
func write(ctx context.Context, conn *pgx.Conn, begun time.Time) error {
	random := make([]byte, 4*streamBatch/2)
	rand.Read(random)
	text := hex.EncodeToString(random)
	for n := 0; ; n++ {
		due := time.Duration(n) * time.Second * streamBatch / streamRate
		if due >= streamTime {
			return nil
		}
		select {
		case <-time.After(due - time.Since(begun)):
		case <-ctx.Done():
			return ctx.Err()
		}
		from := n % 4 * streamBatch
		if _, err := conn.Exec(ctx, "SELECT pg_logical_emit_message(true, 'bench', $1::text)", text[from:from+streamBatch]); err != nil {
			return err
		}
	}
}
