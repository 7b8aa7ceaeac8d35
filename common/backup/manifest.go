package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"walkeep/common/codec"
	"walkeep/common/sealed"
	"walkeep/common/wal"
)

const (
	// ManifestName is the manifest's name in the backup's directory.
	ManifestName = "manifest.json"
	// Version is the version of the format that is written, and the only one that is read.
	Version = 1
	// MaxManifest bounds the size of a manifest in bytes.
	MaxManifest = 16 << 20
)

// ErrFormat says that a backup was stored in a form that this version does not read.
var ErrFormat = errors.New("stored in a form that this version does not read")

// A Manifest describes a backup without its files.
type Manifest struct {
	Version  int    `json:"version"` // of the format
	ID       string `json:"id"`
	Type     string `json:"type"` // full
	Tool     string `json:"tool"` // walkeep's version
	Codec    string `json:"codec"`
	Server   string `json:"server_version"` // as SHOW server_version says it
	Major    int    `json:"server_major"`
	Standby  bool   `json:"from_standby"`
	Checksum bool   `json:"page_checksums"` // the server has page checksums, which were verified while the files were read

	// Method is how the files came: stream, from the server, or files, read on its host. It is empty in backups of earlier
	// versions, which were streamed.
	Method string `json:"method,omitempty"`

	// PageErrors are the messages about pages whose checksums were wrong when they were read. It is empty if all
	// were right, or were not verified. Such a backup is kept to fall back on. It does not replace a clean one.
	PageErrors []string `json:"page_errors,omitempty"`

	SystemID    wal.SystemID    `json:"system_identifier,string"`
	SegmentSize wal.SegmentSize `json:"segment_size"` // bytes
	// Timeline is that on which the backup began and, as PostgreSQL ensures, ended.
	Timeline wal.Timeline `json:"timeline"`
	// Start is where replay begins, Stop the first position at which the restored cluster is consistent.
	Start wal.LSN `json:"start_lsn"`
	Stop  wal.LSN `json:"stop_lsn"`
	// Began and Ended are the server's clock before and after the backup. A commit that is not in the backup, or in the
	// WAL up to Stop, has a later time than Ended, as far as that clock is one.
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`

	Label       string       `json:"backup_label"` // the file's content
	Tablespaces []Tablespace `json:"tablespaces"`
	Files       int          `json:"files"` // without directories
	Bytes       int64        `json:"bytes"` // of all files
	Volumes     []Stored     `json:"volumes"`
	Index       Stored       `json:"index"`
}

// A Tablespace is one beside pg_default and pg_global.
type Tablespace struct {
	OID      uint32 `json:"oid"`
	Location string `json:"location"` // absolute, on the host of the backup; or relative to the data directory
}

// Stored is one object of a backup.
type Stored struct {
	Name   string `json:"name"`   // within the backup's directory
	Plain  int64  `json:"plain"`  // bytes
	Stored int64  `json:"stored"` // bytes
	SHA256 string `json:"sha256"` // of the chunks, as the object's trailer has it; of an encrypted object, of all stored bytes
}

// Encrypted reports whether the object is encrypted, as its name says.
func (s Stored) Encrypted() bool { return strings.HasSuffix(s.Name, sealed.Ext) }

// Encrypted reports whether the backup's files are encrypted.
func (m *Manifest) Encrypted() bool { return m.Index.Encrypted() }

// StoredOf describes the object with this trailer and stored size.
func StoredOf(t *codec.Trailer, size int64) Stored {
	return Stored{Name: t.Name, Plain: int64(t.PlainSize), Stored: size, SHA256: hex.EncodeToString(t.StoredSHA256[:])}
}

// StoredBytes is the size of the backup in the archive, in bytes, without the manifest.
func (m *Manifest) StoredBytes() int64 {
	n := m.Index.Stored
	for _, v := range m.Volumes {
		n += v.Stored
	}
	return n
}

// FirstSegment and LastSegment are the WAL that the backup cannot be restored without.
func (m *Manifest) FirstSegment() wal.Name { return wal.SegmentAt(m.Timeline, m.Start, m.SegmentSize) }

// LastSegment returns the segment that holds the last byte before Stop.
func (m *Manifest) LastSegment() wal.Name {
	return wal.SegmentAt(m.Timeline, max(m.Start, m.Stop-1), m.SegmentSize)
}

// Dir is the directory of the backup with this id in the archive, with a slash at its end.
func Dir(id string) string { return "backups/" + id + "/" }

// objects matches the names of the objects in a backup's directory.
var objects = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(manifest\.json|data-[0-9]{4,}\.tar(\.[0-9a-z]+)+|files\.json(\.[0-9a-z]+)+)$`)
})

// IsObject reports whether a name in a backup's directory is that of an object of a backup. Other files there are not walkeep's.
func IsObject(name string) bool { return objects().MatchString(name) }

const idForm = "20060102T150405Z"

// CheckID returns an error unless a text has the form of a backup's id.
func CheckID(id string) error {
	begin, number, several := strings.Cut(id, "-")
	began, err := time.Parse(idForm, begin)
	n := 1
	if err == nil && several {
		n, err = strconv.Atoi(number)
	}
	if err != nil || NewID(began, n) != id {
		return fmt.Errorf("%q is not the id of a backup, such as 20261123T004501Z", id)
	}
	return nil
}

// Began returns when a backup began, in whole seconds, by its id.
func Began(id string) (time.Time, error) {
	if err := CheckID(id); err != nil {
		return time.Time{}, err
	}
	begin, _, _ := strings.Cut(id, "-")
	return time.Parse(idForm, begin)
}

// NewID is the id of a backup that begins at this time, and the nth to do so, from 1.
func NewID(began time.Time, n int) string {
	id := began.UTC().Format(idForm)
	if n > 1 {
		id = fmt.Sprintf("%s-%d", id, n)
	}
	return id
}

const checksumKey = ",\n  \"manifest_sha256\": \""

// Encode gives the manifest's file.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSuffix(b, []byte("\n}"))
	sum := sha256.Sum256(b)
	if b = fmt.Appendf(b, "%s%x\"\n}\n", checksumKey, sum); len(b) > MaxManifest {
		return nil, fmt.Errorf("encode manifest: %w: the manifest would have %d bytes, and can have %d", ErrTooLarge, len(b), MaxManifest)
	}
	return b, nil
}

// ParseManifest reads a manifest's file and checks it; [codec.ErrDamaged] where it is not what was written, [ErrFormat]
// where another version wrote it.
func ParseManifest(b []byte) (*Manifest, error) {
	var m Manifest
	at := bytes.LastIndex(b, []byte(checksumKey))
	if at < 0 {
		return nil, fmt.Errorf("%w: the manifest has no checksum", codec.ErrDamaged)
	}
	if want := fmt.Sprintf("%s%x\"\n}\n", checksumKey, sha256.Sum256(b[:at])); string(b[at:]) != want {
		return nil, fmt.Errorf("%w: the manifest does not have the checksum that it says", codec.ErrDamaged)
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("%w: %v", codec.ErrDamaged, err)
	}
	if m.Version != Version {
		return nil, fmt.Errorf("the manifest has version %d, this program knows %d: %w", m.Version, Version, ErrFormat)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: %v", codec.ErrDamaged, err)
	}
	return &m, nil
}

// check compares the fields with each other, before they are written and after they were read.
func (m *Manifest) check() error {
	if err := CheckID(m.ID); err != nil {
		return err
	}
	switch {
	case m.Type != "full":
		return fmt.Errorf("backup type %q", m.Type)
	case m.SystemID == 0 || !m.SegmentSize.Valid() || m.Timeline == 0:
		return fmt.Errorf("system identifier %s, segment size %d, timeline %d", m.SystemID, m.SegmentSize, m.Timeline)
	case m.Start == 0 || m.Stop < m.Start:
		return fmt.Errorf("from %s to %s", m.Start, m.Stop)
	case m.Files < 1 || m.Bytes < 0 || len(m.Volumes) == 0:
		return fmt.Errorf("%d files in %d volumes", m.Files, len(m.Volumes))
	}
	for _, s := range append([]Stored{m.Index}, m.Volumes...) {
		if s.Name == "" || strings.ContainsAny(s.Name, "/\\:\x00") || s.Name[0] == '.' || s.Plain < 0 || s.Stored <= 0 {
			return fmt.Errorf("object %q of %d bytes", s.Name, s.Stored)
		}
	}
	for _, t := range m.Tablespaces {
		if err := t.Check(); err != nil {
			return err
		}
	}
	return nil
}

// Check reports whether a manifest can hold the tablespace.
func (t Tablespace) Check() error {
	if t.OID == 0 || t.Location == "" || strings.ContainsAny(t.Location, "\x00\n\r") || !utf8.ValidString(t.Location) {
		return fmt.Errorf("tablespace %d lies at %q, which a backup cannot name", t.OID, t.Location)
	}
	return nil
}
