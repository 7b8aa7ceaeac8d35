package replication

import (
	"encoding/binary"
	"fmt"
	"time"

	"walkeep/common/wal"
)

// A Message is the content of one CopyData message. See the package comment for the layouts.
type Message interface {
	// Decode reads the message from all of b. Texts are copied; bytes of WAL or of an archive stay those of b.
	Decode(b []byte) error
	// Encode appends the message to b.
	Encode(b []byte) []byte
}

// A FormatError is returned for a message that is none of the protocol.
type FormatError struct {
	Type   byte // 0 if the message is empty
	Length int  // of the message, in bytes
}

func (e *FormatError) Error() string {
	if e.Length == 0 {
		return "the server sends an empty message"
	}
	return fmt.Sprintf("the server sends a message of type %q with %d bytes, which the replication protocol does not have here", e.Type, e.Length)
}

func formatError(b []byte) error {
	if len(b) == 0 {
		return &FormatError{}
	}
	return &FormatError{b[0], len(b)}
}

// is reports whether b is a message of this type with exactly length bytes.
func is(b []byte, kind byte, length int) bool { return len(b) == length && b[0] == kind }

// decodeStream reads a message that a server sends in answer to START_REPLICATION.
func decodeStream(b []byte) (Message, error) {
	if len(b) > 0 {
		switch b[0] {
		case kindXLogData:
			return decoded(b, new(XLogData))
		case kindKeepalive:
			return decoded(b, new(PrimaryKeepalive))
		}
	}
	return nil, formatError(b)
}

// decodeBackup reads a message that a server of version 15 or later sends in answer to BASE_BACKUP.
func decodeBackup(b []byte) (Message, error) {
	if len(b) > 0 {
		switch b[0] {
		case kindNewArchive:
			return decoded(b, new(NewArchive))
		case kindManifestStart:
			return decoded(b, new(ManifestStart))
		case kindArchiveData:
			return decoded(b, new(ArchiveData))
		case kindProgress:
			return decoded(b, new(BackupProgress))
		}
	}
	return nil, formatError(b)
}

func decoded(b []byte, m Message) (Message, error) {
	if err := m.Decode(b); err != nil {
		return nil, err
	}
	return m, nil
}

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func appendTime(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(b, uint64(t.UnixMicro()-epoch))
}

func readTime(b []byte) time.Time {
	return time.UnixMicro(int64(binary.BigEndian.Uint64(b)) + epoch).UTC()
}

func appendLSN(b []byte, l wal.LSN) []byte { return binary.BigEndian.AppendUint64(b, uint64(l)) }

func readLSN(b []byte) wal.LSN { return wal.LSN(binary.BigEndian.Uint64(b)) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}
