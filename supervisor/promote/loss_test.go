package promote

import (
	"testing"
	"time"

	"walkeep/common/notes"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

// TestLoss determines the loss from notes of streams. It is in the package because Run needs a server to promote.
func TestLoss(t *testing.T) {
	const end = wal.LSN(0x5000000) // of what was replayed
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	stream := func(tli wal.Timeline, sent wal.LSN, heard time.Time, synchronous bool) notes.Stream {
		return notes.Stream{Timeline: tli, Sent: sent, Heard: heard, Synchronous: synchronous}
	}
	for _, test := range []struct {
		name    string
		streams []notes.Stream
		kept    wal.LSN
		want    Loss
	}{
		{"no stream", nil, 0, Loss{}},
		{"no stream, and all that the archive has was replayed", nil, end, Loss{Kept: end, Written: end}},
		{"no stream, and more in the archive", nil, end + 100, Loss{Kept: end + 100, Written: end + 100, Bytes: 100}},
		{"a stream that had no more", []notes.Stream{stream(1, end, at, false)}, 0, Loss{Streamed: true, Written: end, Heard: at}},
		{"a stream that had less", []notes.Stream{stream(1, end-1, at, false)}, 0, Loss{Streamed: true, Written: end - 1, Heard: at}},
		{"a stream that knew of more", []notes.Stream{stream(1, end+7, at, true)}, 0, Loss{Streamed: true, Synchronous: true, Written: end + 7, Heard: at, Bytes: 7}},
		{"the note is older than what lies there", []notes.Stream{stream(1, end+7, at, false)}, end + 9, Loss{Streamed: true, Written: end + 9, Heard: at, Bytes: 9, Kept: end + 9}},
		{"a stream that never heard the server", []notes.Stream{stream(1, end+7, time.Time{}, true)}, 0, Loss{}},
		{"a stream of the new timeline", []notes.Stream{stream(2, end+7, at, true)}, 0, Loss{}},
		{
			"the stream that knows most", []notes.Stream{stream(1, end+7, at, false), stream(1, end+8, at, true), stream(1, end+6, at, false)}, 0,
			Loss{Streamed: true, Synchronous: true, Written: end + 8, Heard: at, Bytes: 8},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &promoter{inv: &recovery.Inventory{Streams: test.streams}, done: Result{Timeline: 2, End: end}, kept: test.kept}
			if got := p.loss(); got != test.want {
				t.Errorf("got %+v\nwant %+v", got, test.want)
			}
		})
	}
}
