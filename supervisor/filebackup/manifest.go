package filebackup

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"math/bits"
	"strings"
	"time"
	"unicode/utf8"

	"walkeep/common/wal"
)

// A listed file is one in PostgreSQL's backup_manifest.
type listed struct {
	path    string
	size    int64  // bytes
	modTime int64  // seconds since 1970
	crc     uint32 // CRC-32C of the content
}

// A list keeps listed files in little memory: one behind the other, in pieces.
type list struct {
	pieces [][]byte
	count  int
}

// listPiece is the size of a piece in bytes.
const listPiece = 64 << 10

func (l *list) add(f listed) {
	need := len(f.path) + 4*binary.MaxVarintLen64
	if n := len(l.pieces); n == 0 || cap(l.pieces[n-1])-len(l.pieces[n-1]) < need {
		l.pieces = append(l.pieces, make([]byte, 0, max(listPiece, need)))
	}
	b := &l.pieces[len(l.pieces)-1]
	*b = binary.AppendUvarint(*b, uint64(len(f.path)))
	*b = append(*b, f.path...)
	*b = binary.AppendVarint(*b, f.size)
	*b = binary.AppendVarint(*b, f.modTime)
	*b = binary.AppendUvarint(*b, uint64(f.crc))
	l.count++
}

// all yields the files in their order.
func (l *list) all() iter.Seq[listed] {
	return func(yield func(listed) bool) {
		for _, b := range l.pieces {
			for len(b) > 0 {
				length, n := binary.Uvarint(b)
				f := listed{path: string(b[n : n+int(length)])}
				b = b[n+int(length):]
				f.size, n = binary.Varint(b)
				b = b[n:]
				f.modTime, n = binary.Varint(b)
				b = b[n:]
				crc, n := binary.Uvarint(b)
				f.crc, b = uint32(crc), b[n:]
				if !yield(f) {
					return
				}
			}
		}
	}
}

// Manifest describes a whole backup for PostgreSQL's backup_manifest.
type Manifest struct {
	SystemID   wal.SystemID
	Timeline   wal.Timeline
	Start, End wal.LSN
}

// BackupManifest returns PostgreSQL's backup_manifest of all files that were yielded, and its size in bytes. It must be called once. The
// form is that of the server's major version: see backup_manifest.c, and the chapter "Backup Manifest Format" of PostgreSQL's documentation.
func (s *Source) BackupManifest(m Manifest) (int64, io.Reader) {
	r := &manifest{Manifest: m, major: s.Major, files: &s.listed}
	var size int64
	for line := range r.lines() {
		size += int64(len(line))
	}
	var next func() ([]byte, bool)
	next, s.unlist = iter.Pull(r.lines())
	return size, &lineReader{next: next}
}

// manifest renders a backup_manifest line by line, since that of many files is large.
type manifest struct {
	Manifest
	major int
	files *list
}

// lines yields a head, a line for each file, what follows them, and the checksum of all before.
func (m *manifest) lines() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		sum := sha256.New()
		line := func(b []byte) bool {
			sum.Write(b)
			return yield(b)
		}
		head := "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n"
		if m.major >= 17 {
			head = fmt.Sprintf("{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [\n", uint64(m.SystemID))
		}
		if !line([]byte(head)) {
			return
		}
		n := 0
		for f := range m.files.all() {
			if n++; !line(f.line(n == m.files.count)) {
				return
			}
		}
		if line(fmt.Appendf(nil, "],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }\n],\n", m.Timeline, m.Start, m.End)) {
			yield(fmt.Appendf(nil, "\"Manifest-Checksum\": \"%x\"}\n", sum.Sum(nil)))
		}
	}
}

// A lineReader reads lines one after the other.
type lineReader struct {
	next func() ([]byte, bool)
	rest []byte
}

func (r *lineReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		var more bool
		if r.rest, more = r.next(); !more {
			return 0, io.EOF
		}
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// line renders a file. The checksum has the byte order of PostgreSQL on usual processors, the lowest byte first.
func (l listed) line(last bool) []byte {
	name := `"Encoded-Path": "` + hex.EncodeToString([]byte(l.path)) + `"`
	if utf8.ValidString(l.path) {
		name = `"Path": ` + quote(l.path)
	}
	end := ",\n"
	if last {
		end = "\n"
	}
	return fmt.Appendf(nil, "{ %s, \"Size\": %d, \"Last-Modified\": \"%s\", \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"%08x\" }%s",
		name, l.size, time.Unix(l.modTime, 0).UTC().Format("2006-01-02 15:04:05 GMT"), bits.ReverseBytes32(l.crc), end)
}

// quote returns a text as JSON. Paths rarely need an escape.
func quote(text string) string {
	if !strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == '"' || r == '\\' }) {
		return `"` + text + `"`
	}
	b, _ := json.Marshal(text) // of a string it cannot fail
	return string(b)
}
