package replication

const kindArchiveData = 'd'

// ArchiveData carries bytes of the archive, or of the manifest, that began last.
type ArchiveData struct{ Data []byte }

// Decode implements [Message].
func (m *ArchiveData) Decode(b []byte) error {
	if len(b) == 0 || b[0] != kindArchiveData {
		return formatError(b)
	}
	m.Data = b[1:]
	return nil
}

// Encode implements [Message].
func (m *ArchiveData) Encode(b []byte) []byte { return append(append(b, kindArchiveData), m.Data...) }
