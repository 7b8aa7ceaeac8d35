package filebackup

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
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

// Manifest describes a whole backup for PostgreSQL's backup_manifest.
type Manifest struct {
	SystemID   wal.SystemID
	Timeline   wal.Timeline
	Start, End wal.LSN
}

// BackupManifest returns PostgreSQL's backup_manifest of all files that were yielded, and its size in bytes. The
// form is that of the server's major version: see backup_manifest.c, and the chapter "Backup Manifest Format" of PostgreSQL's documentation.
func (s *Source) BackupManifest(m Manifest) (int64, io.Reader) {
	r := &manifest{Manifest: m, major: s.Major, files: s.listed, sum: sha256.New()}
	var size int64
	for i := range r.lines() {
		size += int64(len(r.line(i)))
	}
	r.sum.Reset()
	return size, r
}

// manifest renders a backup_manifest line by line, since that of many files is large.
type manifest struct {
	Manifest
	major int
	files []listed
	at    int // the next line
	rest  []byte
	sum   hash.Hash // of the lines before the last one
}

// lines is the number of the parts that line renders: a head, a line for each file, what follows them, and the checksum.
func (m *manifest) lines() int { return len(m.files) + 3 }

func (m *manifest) Read(p []byte) (int, error) {
	for len(m.rest) == 0 {
		if m.at == m.lines() {
			return 0, io.EOF
		}
		m.rest = m.line(m.at)
		m.at++
	}
	n := copy(p, m.rest)
	m.rest = m.rest[n:]
	return n, nil
}

func (m *manifest) line(i int) []byte {
	var b []byte
	switch n := len(m.files); {
	case i == 0 && m.major >= 17:
		b = fmt.Appendf(nil, "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": %d,\n\"Files\": [\n", uint64(m.SystemID))
	case i == 0:
		b = []byte("{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n\"Files\": [\n")
	case i <= n:
		b = m.files[i-1].line(i == n)
	case i == n+1:
		b = fmt.Appendf(nil, "],\n\"WAL-Ranges\": [\n{ \"Timeline\": %d, \"Start-LSN\": \"%s\", \"End-LSN\": \"%s\" }\n],\n", m.Timeline, m.Start, m.End)
	default:
		return fmt.Appendf(nil, "\"Manifest-Checksum\": \"%x\"}\n", m.sum.Sum(nil))
	}
	m.sum.Write(b)
	return b
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
