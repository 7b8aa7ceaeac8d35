package receive_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cmdtest"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
	"walkeep/supervisor/receive"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
	"walkeep/supervisor/spool"
)

const (
	size  = 1 << 20 // bytes of a segment of the test data
	slot  = "walkeep"
	first = "000000010000000000000009" // two segments that follow each other; a switch record ends the second
	next  = "00000001000000000000000A"
	// The LSNs at which the two begin, and where the second ends.
	firstLSN wal.LSN = 0x900000
	nextLSN  wal.LSN = 0xA00000
	endLSN   wal.LSN = 0xB00000
)

// A rig streams from a server that is none into an archive in memory.
type rig struct {
	*replicationtest.Primary
	t     *testing.T
	a     *archive.Archive
	spool *spool.Spool
	flush time.Duration

	mu  sync.Mutex
	log bytes.Buffer
}

func newRig(t *testing.T) *rig {
	files := maps.Clone(cmdtest.WAL(t, "15"))
	r := &rig{
		t: t, a: archive.New(new(mem.Backend)), flush: time.Millisecond,
		Primary: &replicationtest.Primary{
			Server: replicationtest.Server{Version: "15.0"}, SystemID: wal.SystemID(cmdtest.SystemID(files[first])), SegmentSize: size,
			Timeline: 1, Flushed: endLSN, WAL: files, Slots: map[string]replicationtest.Slot{slot: {Restart: firstLSN}},
		},
	}
	r.spool = &spool.Spool{Dir: t.TempDir(), Archive: r.a, Store: r.push}
	return r
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// Write implements io.Writer for the log.
func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func (r *rig) said() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

// push archives a file.
func (r *rig) push(ctx context.Context, path string) error {
	c, err := codec.ByName("none")
	if err != nil {
		return err
	}
	_, err = r.a.NewPusher(archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "test"}).Push(ctx, path)
	return err
}

// archive archives a content under a name.
func (r *rig) archive(name string, content []byte) {
	r.t.Helper()
	path := filepath.Join(r.t.TempDir(), name)
	r.must(os.WriteFile(path, content, 0o600))
	r.must(r.push(r.t.Context(), path))
}

// run streams until stop is called, which returns what Run returned, or until Run ends by itself.
func (r *rig) run() (stop func() error) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- receive.Run(ctx, receive.Options{
			Conninfo: r.Conninfo(), Slot: slot, Spool: r.spool, FlushInterval: r.flush, Log: slog.New(slog.NewTextHandler(r, nil)),
		})
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	r.t.Cleanup(func() { stop() })
	return stop
}

// runToEnd returns with what Run returns by itself.
func (r *rig) runToEnd() error {
	r.t.Helper()
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	defer cancel()
	go func() {
		ended <- receive.Run(ctx, receive.Options{
			Conninfo: r.Conninfo(), Slot: slot, Spool: r.spool, FlushInterval: r.flush, Log: slog.New(slog.NewTextHandler(r, nil)),
		})
	}()
	err := <-ended
	if ctx.Err() != nil {
		r.t.Fatalf("Run has not ended by itself:\n%s", r.said())
	}
	return err
}

// until waits for something.
func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for limit := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(limit) {
			r.t.Fatalf("%s: not within a minute; partial/ holds %q, and the log says:\n%s", what, r.partial(), r.said())
		}
	}
}

// partial lists partial/.
func (r *rig) partial() []string {
	entries, err := os.ReadDir(r.spool.Partial(""))
	if err != nil {
		return nil
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func (r *rig) path(name string) string { return r.spool.Partial(name) }

// put lays a file into partial/.
func (r *rig) put(name string, content []byte) {
	r.t.Helper()
	r.must(os.MkdirAll(r.spool.Partial(""), 0o700))
	r.must(os.WriteFile(r.path(name), content, 0o600))
}

// streamed reads a file of partial/; nil if it is not there.
func (r *rig) streamed(name string) []byte {
	content, err := os.ReadFile(r.path(name))
	if err != nil {
		return nil
	}
	return content
}

// archived reads a file of the archive; nil if it is not there.
func (r *rig) archived(name string) []byte {
	n, err := wal.ParseName(name)
	if err != nil {
		r.t.Error(err)
		return nil
	}
	content := codec.Memory{Limit: size}
	if _, err := recovery.Fetch(context.Background(), r.a, n, 0, &content); err != nil {
		return nil
	}
	return content.Bytes()
}

// holds waits until the archive holds these files as the server has them.
func (r *rig) holds(names ...string) {
	r.t.Helper()
	for _, name := range names {
		r.until(name+" to be archived", func() bool { return r.archived(name) != nil })
		if !bytes.Equal(r.archived(name), r.WAL[name]) {
			r.t.Errorf("%s is archived with another content", name)
		}
	}
}

// aside finds the files that were put aside for a reason.
func (r *rig) aside(name, why string) []string {
	r.t.Helper()
	found, err := filepath.Glob(r.path(name) + "." + why + "-*")
	r.must(err)
	return found
}

// startedFrom waits for the streams that were started, and compares.
func (r *rig) startedFrom(want ...replication.Position) {
	r.t.Helper()
	r.until("the streams to be started", func() bool { return len(r.Streams()) >= len(want) })
	if got := r.Streams(); !slices.Equal(got, want) {
		r.t.Errorf("streams were started at %v, want %v", got, want)
	}
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&fs.ModeType == 0
}

func (r *rig) logged(words string) {
	r.t.Helper()
	r.until("the log to say "+words, func() bool { return strings.Contains(r.said(), words) })
}

func is(err, want error) bool {
	return want == nil && err == nil || want != nil && errors.Is(err, want)
}
