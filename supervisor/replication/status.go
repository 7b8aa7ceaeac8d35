package replication

import (
	"time"

	"walkeep/common/wal"
)

const kindStatus = 'r'

// StandbyStatusUpdate reports to the server what was received. The server may remove WAL up to Flushed, and confirms a
// commit that waits for this stream.
type StandbyStatusUpdate struct {
	Written, Flushed wal.LSN   // the first byte that is not written, and the first that is not durable
	Applied          wal.LSN   // 0: nothing is applied here
	Time             time.Time // of sending, by the clock of this host; in microseconds
	Reply            bool      // the server shall answer at once
}

// Decode implements [Message].
func (m *StandbyStatusUpdate) Decode(b []byte) error {
	if !is(b, kindStatus, 34) {
		return formatError(b)
	}
	*m = StandbyStatusUpdate{readLSN(b[1:]), readLSN(b[9:]), readLSN(b[17:]), readTime(b[25:]), b[33] != 0}
	return nil
}

// Encode implements [Message].
func (m *StandbyStatusUpdate) Encode(b []byte) []byte {
	b = appendLSN(appendLSN(appendLSN(append(b, kindStatus), m.Written), m.Flushed), m.Applied)
	return appendBool(appendTime(b, m.Time), m.Reply)
}
