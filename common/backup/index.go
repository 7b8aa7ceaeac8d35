package backup

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"walkeep/common/codec"
)

const (
	// BlockSize is the plain size in bytes of the parts of files that are hashed and compared by themselves.
	BlockSize = 256 << 10
	// ChunkSize is the plain size in bytes of the parts of volumes that are compressed by themselves.
	ChunkSize = 1 << 20
	// VolumeSize is the plain size in bytes that a volume has at least, unless it is the last.
	VolumeSize = 1 << 30
	// HashSize is the size in bytes of a block's hash.
	HashSize = 16

	// MaxIndex is the largest plain size in bytes that an index can have: that of a cluster of about 20 TB, or of some
	// 20 million files.
	MaxIndex = 2 << 30
	// MaxFile is the largest size in bytes that a file can have: more chunks than its blocks need no trailer can list, and no
	// line of the index its hashes.
	MaxFile = 256 << 30

	maxLine = 64 << 20 // bytes
)

// ErrTooLarge says that a cluster, or a file of it, is larger than a backup can hold.
var ErrTooLarge = errors.New("too large for a backup")

// IndexSize is about how many bytes of the index a file needs; never less than it does.
func (f *File) IndexSize() int64 {
	const keys = 160 // names of keys, numbers, and marks
	return int64(keys+6*len(f.Path)) + int64(f.Blocks()*HashSize+2)/3*4
}

// LeastIndex returns a lower bound, in bytes, for the size of the index of so many bytes of files.
func LeastIndex(bytes int64) int64 { return bytes / BlockSize * HashSize / 3 * 4 }

// A File is a file or a directory of a backup.
type File struct {
	Path    string    // relative to the data directory, with slashes
	Dir     bool      // it is a directory, and has no content
	Mode    uint32    // permission bits
	ModTime time.Time // whole seconds
	Size    int64     // bytes
	Volume  int       // the volume that holds the content, from 1; 0 where there is none
	Offset  int64     // of the content in the volume's tar stream, in bytes
	Hashes  []byte    // XXH3-128 of each block
}

// Blocks is the number of the file's blocks.
func (f *File) Blocks() int { return int((f.Size + BlockSize - 1) / BlockSize) }

// Hash is that of block i, from 0.
func (f *File) Hash(i int) [HashSize]byte { return [HashSize]byte(f.Hashes[i*HashSize:]) }

// line is a File in the index. A path that is not UTF-8 is in hexadecimal, as in PostgreSQL's backup_manifest.
type line struct {
	Path    string `json:"path,omitempty"`
	Encoded string `json:"encoded_path,omitempty"`
	Dir     bool   `json:"dir,omitempty"`
	Mode    uint32 `json:"mode"`
	ModTime int64  `json:"mtime"` // seconds since 1970
	Size    int64  `json:"size,omitempty"`
	Volume  int    `json:"volume,omitempty"`
	Offset  int64  `json:"offset,omitempty"`
	Hashes  []byte `json:"hashes,omitempty"` // base64
}

// WriteIndex writes the index's plain content.
func WriteIndex(w io.Writer, files []File) error {
	b := bufio.NewWriterSize(w, 64<<10)
	seen := make(map[string]bool)
	var e LineEncoder
	for i := range files {
		f := &files[i]
		line, err := e.Line(f)
		if err == nil && seen[f.Path] {
			err = fmt.Errorf("encode index: %q: %w", f.Path, errTwice)
		}
		if err != nil {
			return err
		}
		seen[f.Path] = true
		if _, err := b.Write(line); err != nil {
			return err
		}
	}
	return b.Flush()
}

// A LineEncoder encodes files as lines of the index. Its zero value is ready.
type LineEncoder struct {
	b bytes.Buffer
	e *json.Encoder
}

// Line returns a file's line, which is valid until the next call. The caller makes sure that no path is there twice.
func (e *LineEncoder) Line(f *File) ([]byte, error) {
	if e.e == nil {
		e.e = json.NewEncoder(&e.b)
		e.e.SetEscapeHTML(false)
	}
	err := f.check()
	if err == nil {
		l := line{f.Path, "", f.Dir, f.Mode, f.ModTime.Unix(), f.Size, f.Volume, f.Offset, f.Hashes}
		if !utf8.ValidString(f.Path) {
			l.Path, l.Encoded = "", hex.EncodeToString([]byte(f.Path))
		}
		e.b.Reset()
		err = e.e.Encode(l)
	}
	if err != nil {
		return nil, fmt.Errorf("encode index: %q: %w", f.Path, err)
	}
	return e.b.Bytes(), nil
}

var errTwice = errors.New("it is there twice")

// ReadIndex reads the index's plain content; [codec.ErrDamaged] where it cannot be one. No path in it leads out of the
// data directory, and none is there twice.
func ReadIndex(r io.Reader) ([]File, error) {
	var files []File
	err := eachFile(r, func(f *File) { files = append(files, *f) })
	if err != nil {
		return nil, err
	}
	return files, nil
}

// eachFile calls visit with each file of the index's plain content.
func eachFile(r io.Reader, visit func(*File)) error {
	// Of a path only a hash is kept, which takes less memory.
	seen := make(map[xxh3.Uint128]struct{})
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 64<<10), maxLine)
	for n := 1; s.Scan(); n++ {
		var l line
		d := json.NewDecoder(bytes.NewReader(s.Bytes()))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return fmt.Errorf("%w: index, line %d: %v", codec.ErrDamaged, n, err)
		}
		f := File{l.Path, l.Dir, l.Mode, time.Unix(l.ModTime, 0).UTC(), l.Size, l.Volume, l.Offset, l.Hashes}
		if l.Encoded != "" {
			raw, err := hex.DecodeString(l.Encoded)
			if err != nil {
				return fmt.Errorf("%w: index, line %d: %v", codec.ErrDamaged, n, err)
			}
			f.Path = string(raw)
		}
		err, key := f.check(), xxh3.HashString128(f.Path)
		if _, twice := seen[key]; err == nil && twice {
			err = errTwice
		}
		if err != nil {
			return fmt.Errorf("%w: index, line %d: %q: %v", codec.ErrDamaged, n, f.Path, err)
		}
		seen[key] = struct{}{}
		visit(&f)
	}
	if err := s.Err(); err != nil {
		return fmt.Errorf("%w: index: %w", codec.ErrDamaged, err)
	}
	return nil
}

func (f *File) check() error {
	if err := CheckPath(f.Path); err != nil {
		return err
	}
	switch {
	case f.Dir && (f.Size != 0 || f.Volume != 0 || len(f.Hashes) != 0):
		return errors.New("a directory with content")
	case f.Size > MaxFile:
		return fmt.Errorf("%w: %d bytes, at most %d can be stored", ErrTooLarge, f.Size, int64(MaxFile))
	case f.Mode > 0o777:
		return fmt.Errorf("mode %o", f.Mode)
	case f.Size < 0 || f.Offset < 0 || f.Volume < 0 || f.Size > 0 && f.Volume == 0:
		return fmt.Errorf("%d bytes at %d of volume %d", f.Size, f.Offset, f.Volume)
	case len(f.Hashes) != f.Blocks()*HashSize:
		return fmt.Errorf("%d bytes of hashes for %d bytes", len(f.Hashes), f.Size)
	}
	return nil
}

// CheckPath returns an error unless a path is relative, clean, inside the data directory, and valid on every system.
func CheckPath(p string) error {
	if p == "" || p == "." || path.IsAbs(p) || path.Clean(p) != p || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsAny(p, "\x00\\") {
		return errors.New("not a path below the data directory")
	}
	return nil
}
