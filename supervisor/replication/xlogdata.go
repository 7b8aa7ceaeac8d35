package replication

import (
	"time"

	"walkeep/common/wal"
)

const (
	kindXLogData   = 'w'
	xlogDataHeader = 25 // bytes
)

// XLogData carries bytes of WAL.
type XLogData struct {
	Start wal.LSN   // of the first byte of Data
	End   wal.LSN   // how far the server has written its WAL
	Time  time.Time // when the server sent it, by its clock; in microseconds
	Data  []byte
}

// Decode implements [Message].
func (m *XLogData) Decode(b []byte) error {
	if len(b) < xlogDataHeader || b[0] != kindXLogData {
		return formatError(b)
	}
	*m = XLogData{readLSN(b[1:]), readLSN(b[9:]), readTime(b[17:]), b[xlogDataHeader:]}
	return nil
}

// Encode implements [Message].
func (m *XLogData) Encode(b []byte) []byte {
	return append(appendTime(appendLSN(appendLSN(append(b, kindXLogData), m.Start), m.End), m.Time), m.Data...)
}
