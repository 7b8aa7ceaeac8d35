package replication

import "encoding/binary"

const kindProgress = 'p'

// BackupProgress is how much of a base backup was sent.
type BackupProgress struct{ Sent int64 } // bytes

// Decode implements [Message].
func (m *BackupProgress) Decode(b []byte) error {
	if !is(b, kindProgress, 9) {
		return formatError(b)
	}
	m.Sent = int64(binary.BigEndian.Uint64(b[1:]))
	return nil
}

// Encode implements [Message].
func (m *BackupProgress) Encode(b []byte) []byte {
	return binary.BigEndian.AppendUint64(append(b, kindProgress), uint64(m.Sent))
}
