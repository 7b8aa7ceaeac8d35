package receive_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/wal"
	"walkeep/supervisor/receive"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
)

// wholeRecords is where the last whole record of a part of the first segment ends.
func wholeRecords(t *testing.T, r *rig, length int) wal.LSN {
	t.Helper()
	l := cmdtest.Read(t, r.WAL[first])
	end := 0
	for _, record := range l.Records {
		if at := l.Offset(record.At+record.Length-1) + 1; at <= length {
			end = (at + 7) &^ 7
		}
	}
	return firstLSN + wal.LSN(end)
}

// A stream begins behind the last whole record of what an earlier one has left. What follows that record is received again,
// compared, and replaced where it differs.
func TestResume(t *testing.T) {
	const length = size/2 + 5
	for name, test := range map[string]struct {
		tail  string // behind the first bytes of the segment
		aside string // why the file was put aside
		whole bool   // the content is WAL
	}{
		"as it was left":           {whole: true},
		"torn by a power cut":      {tail: "what a power cut leaves", whole: true},
		"zeros behind the records": {tail: strings.Repeat("\x00", 100_000), whole: true},
		"no WAL":                   {aside: "not-wal"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			content := append(bytes.Clone(r.WAL[first][:length]), test.tail...)
			want := firstLSN
			if test.whole {
				want = wholeRecords(t, r, length)
			} else {
				content = bytes.Repeat([]byte("text"), 10_000)
			}
			r.put(first+".partial", content)
			r.Start(t)
			stop := r.run()
			r.holds(first, next)
			r.must(stop())
			r.startedFrom(replication.Position{Timeline: 1, LSN: want})
			if test.aside == "" {
				return
			}
			aside := r.aside(first+".partial", test.aside)
			if len(aside) != 1 {
				t.Fatalf("partial/ holds %q", r.partial())
			}
			if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("what was put aside has changed (%v)", err)
			}
		})
	}
}

// The server sends other WAL than what partial/ holds of a segment: that may be the only copy of what another server wrote, so
// it is put aside, and the segment is streamed from its beginning.
func TestDiffers(t *testing.T) {
	r := newRig(t)
	other := bytes.Clone(r.WAL[next][:size/2])
	copy(other[24:32], "another!") // the system identifier, which no record's checksum covers
	r.Stream = func(s *replicationtest.Session, from replication.Position) {
		r.Change(func() { r.Stream = nil })
		r.Send(s, from.Timeline, from.LSN, nextLSN-1)
		r.put(next+".partial", other) // as a promotion on this host keeps it
		r.Serve(s, replication.Position{Timeline: from.Timeline, LSN: nextLSN - 1})
	}
	r.Start(t)
	stop := r.run()
	r.holds(first, next)
	r.must(stop())
	aside := r.aside(next+".partial", "differs")
	if len(aside) != 1 {
		t.Fatalf("partial/ holds %q", r.partial())
	}
	if kept, err := os.ReadFile(aside[0]); err != nil || !bytes.Equal(kept, other) {
		t.Errorf("what was put aside has changed (%v)", err)
	}
	r.startedFrom(replication.Position{Timeline: 1, LSN: firstLSN}, replication.Position{Timeline: 1, LSN: nextLSN})
}

// A standby may send what follows a switch record before it has received that itself. The rest of the segment is received
// once more, and the second answer counts.
func TestSettle(t *testing.T) {
	r := newRig(t)
	r.Standby = true
	r.Stream = func(s *replicationtest.Session, from replication.Position) {
		r.Change(func() { r.Stream = nil })
		stale := bytes.Clone(r.WAL[next])
		copy(stale[size-1000:], "bytes of an earlier use of the file")
		r.Send(s, from.Timeline, from.LSN, nextLSN)
		for at := 0; at < size; at += 1 << 16 {
			s.Copy(&replication.XLogData{Start: nextLSN + wal.LSN(at), End: endLSN, Data: stale[at : at+1<<16]})
		}
		for {
			s.Status()
		}
	}
	r.Start(t)
	stop := r.run()
	r.holds(first, next)
	r.must(stop())
	started := r.Streams()
	if len(started) != 2 || started[1].LSN <= nextLSN || started[1].LSN >= endLSN {
		t.Errorf("streams were started at %v", started)
	}
}

// A segment that the archive holds with another content stays in partial/, the stream continues, and its note reports this.
func TestConflict(t *testing.T) {
	r := newRig(t)
	other := bytes.Clone(r.WAL[first])
	clear(other[size/2:])
	r.archive(first, other)
	r.put(first+".partial", r.WAL[first][:size/2])
	// The stream continues with the segment after the archive's last one; the file that is there belongs to an earlier server.
	r.put(first, r.WAL[first])
	r.must(os.Remove(r.path(first + ".partial")))
	r.Start(t)
	stop := r.run()
	r.holds(next)
	r.logged("another content is archived")
	r.must(stop())
	if !bytes.Equal(r.streamed(first), r.WAL[first]) || !bytes.Equal(r.archived(first), other) {
		t.Error("one of the two contents was changed")
	}
	notes, _, err := r.a.Notes().Streams(context.Background())
	r.must(err)
	if len(notes) != 1 || !strings.Contains(notes[0].Unstored, first) || !notes[0].Ended {
		t.Errorf("the notes are %+v", notes)
	}
}

// A partial segment whose segment the archive has by now is removed; it is kept aside if its records are others.
func TestSuperseded(t *testing.T) {
	for name, change := range map[string]func([]byte) []byte{
		"same":    func(b []byte) []byte { return b },
		"torn":    func(b []byte) []byte { return append(b, "what a power cut leaves"...) },
		"differs": func(b []byte) []byte { copy(b[24:32], "another!"); return b },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			content := change(bytes.Clone(r.WAL[first][:size/2]))
			r.put(first+".partial", content)
			r.archive(first, r.WAL[first])
			r.Start(t)
			stop := r.run()
			r.holds(next)
			r.until("the partial segment to be removed", func() bool { return r.streamed(first+".partial") == nil })
			r.must(stop())
			aside := r.aside(first+".partial", "differs")
			if (name == "differs") != (len(aside) == 1) {
				t.Fatalf("partial/ holds %q", r.partial())
			}
			for _, path := range aside {
				if kept, err := os.ReadFile(path); err != nil || !bytes.Equal(kept, content) {
					t.Errorf("%s has changed (%v)", filepath.Base(path), err)
				}
			}
		})
	}
}

// The histories that the archive lacks are fetched from the server and stored; one that neither has is an error, unless
// the server began on a later timeline.
func TestStoreHistories(t *testing.T) {
	for name, test := range map[string]struct {
		histories map[wal.Timeline]string
		stored    []string
		want      error
	}{
		"all":           {map[wal.Timeline]string{2: "1\t0/A00000\tx\n", 3: "1\t0/A00000\tx\n2\t0/B00000\ty\n"}, []string{"00000002.history", "00000003.history"}, nil},
		"without older": {map[wal.Timeline]string{3: "1\t0/A00000\tx\n2\t0/B00000\ty\n"}, []string{"00000003.history"}, nil},
		"without its":   {nil, nil, receive.ErrHistory},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.Timeline, r.Histories = 3, test.histories
			r.Start(t)
			err := receive.StoreHistories(t.Context(), r.spool, r.Conninfo())
			if !is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			for _, n := range test.stored {
				if r.archived(n) == nil {
					t.Errorf("%s is not archived", n)
				}
			}
			if left := r.partial(); len(left) != 0 {
				t.Errorf("partial/ holds %q", left)
			}
		})
	}
}
