package main_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// used returns the bytes of the spool's files. It leaves out files that have no name yet: the limit is checked when they are
// written.
func used(t *testing.T, spool cmdtest.Spool) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(string(spool), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".tmp") {
			var info fs.FileInfo
			if info, err = d.Info(); err == nil {
				sum += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return sum
}

// TestSpoolLimit sets a limit that holds only some of the waiting segments. The spool never exceeds it, and no call reports
// success for a segment that was not stored.
func TestSpoolLimit(t *testing.T) {
	cmdtest.Long(t)
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	const object = 1<<20 + 512 // what a segment has with the codec none, at most
	for _, ahead := range []int{0, 1, 24} {
		for _, room := range []int{0, 1, 3, 5} {
			limit := int64(room)*object + 200 // and the identity
			t.Run(strconv.Itoa(room)+" ahead "+strconv.Itoa(ahead), func(t *testing.T) {
				t.Parallel()
				b := newBench(t, cmdtest.FastDir(t), files.Only(names...))
				done, watch := make(chan bool), sync.WaitGroup{}
				watch.Go(func() {
					for {
						if n := used(t, b.spool); n > limit {
							t.Errorf("%d bytes are used, the limit is %d", n, limit)
							return
						}
						select {
						case <-done:
							return
						case <-time.After(time.Millisecond):
						}
					}
				})
				args := []string{"--codec", "none", "--spool-limit", strconv.FormatInt(limit, 10)}
				acknowledged := make(cmdtest.Files)
				for range 2 {
					for _, name := range names {
						if r := b.ahead(t, ahead, name, args...); r.Code == 0 {
							acknowledged[name] = files[name]
						} else {
							r.Expect(t, 1, "archive "+name+": ", "size limit", "hint: PostgreSQL keeps its WAL until there is room; raise spool-limit")
						}
					}
				}
				close(done)
				watch.Wait()
				b.spool.Check(t, acknowledged)
				if len(acknowledged) != room {
					t.Errorf("%d segments found room, want %d", len(acknowledged), room)
				}
				// With more room all is well.
				for _, name := range names {
					b.ahead(t, ahead, name, "--codec", "none", "--spool-limit", "20MB").Expect(t, 0)
				}
				b.spool.Check(t, files.Only(names...))
			})
		}
	}
}
