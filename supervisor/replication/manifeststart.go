package replication

const kindManifestStart = 'm'

// ManifestStart begins the backup manifest of a base backup.
type ManifestStart struct{}

// Decode implements [Message].
func (m *ManifestStart) Decode(b []byte) error {
	if !is(b, kindManifestStart, 1) {
		return formatError(b)
	}
	return nil
}

// Encode implements [Message].
func (m *ManifestStart) Encode(b []byte) []byte { return append(b, kindManifestStart) }
