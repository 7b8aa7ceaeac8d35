package replication

import (
	"time"

	"walkeep/common/wal"
)

const kindKeepalive = 'k'

// PrimaryKeepalive is sent when there is no WAL to send. It holds the server's position.
type PrimaryKeepalive struct {
	End   wal.LSN   // how far the server has written its WAL
	Time  time.Time // when the server sent it, by its clock; in microseconds
	Reply bool      // the server wants a status update at once
}

// Decode implements [Message].
func (m *PrimaryKeepalive) Decode(b []byte) error {
	if !is(b, kindKeepalive, 18) {
		return formatError(b)
	}
	*m = PrimaryKeepalive{readLSN(b[1:]), readTime(b[9:]), b[17] != 0}
	return nil
}

// Encode implements [Message].
func (m *PrimaryKeepalive) Encode(b []byte) []byte {
	return appendBool(appendTime(appendLSN(append(b, kindKeepalive), m.End), m.Time), m.Reply)
}
