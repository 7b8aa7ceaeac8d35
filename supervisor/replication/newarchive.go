package replication

import "bytes"

const kindNewArchive = 'n'

// NewArchive begins an archive of a base backup.
type NewArchive struct {
	Name string // base.tar, or OID.tar for a tablespace
	Path string // of the tablespace on the server; empty for base.tar
}

// Decode implements [Message].
func (m *NewArchive) Decode(b []byte) error {
	if len(b) == 0 || b[0] != kindNewArchive {
		return formatError(b)
	}
	parts := bytes.Split(b[1:], []byte{0})
	if len(parts) != 3 || len(parts[2]) != 0 {
		return formatError(b)
	}
	*m = NewArchive{string(parts[0]), string(parts[1])}
	return nil
}

// Encode implements [Message].
func (m *NewArchive) Encode(b []byte) []byte {
	b = append(append(b, kindNewArchive), m.Name...)
	return append(append(append(b, 0), m.Path...), 0)
}
