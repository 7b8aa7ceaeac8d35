package basebackup

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"

	"walkeep/common/backup"
	"walkeep/supervisor/replication"
)

const (
	labelFile    = "backup_label"
	manifestFile = "backup_manifest"
	maxLabel     = 1 << 20 // bytes
)

// A source yields the files that the server sends, as a [volume.Source]. The control file comes last except for the
// server's own manifest, as in the stream.
type source struct {
	s     *replication.Backup
	tar   *tar.Reader     // of the current archive; nil before the first
	known map[string]bool // directories of tablespaces that were yielded
	dir   string          // to which the current archive's names are relative, with a slash at its end
	label []byte          // content of backup_label, once it was sent
}

// Next implements [volume.Source].
func (s *source) Next() (backup.File, io.Reader, error) {
	for {
		if s.tar == nil {
			f, r, err := s.begin()
			if r != nil || err != nil || f.Dir {
				return f, r, err
			}
			continue
		}
		h, err := s.tar.Next()
		if errors.Is(err, io.EOF) {
			// The stream is read to the end of the archive's last message, whatever follows its last file.
			if _, err := io.Copy(io.Discard, s.s); err != nil {
				return backup.File{}, nil, err
			}
			s.tar = nil
			continue
		}
		if err != nil {
			return backup.File{}, nil, err
		}
		f, ok, err := s.file(h)
		if err != nil {
			return f, nil, err
		}
		if !ok {
			continue
		}
		if f.Path == labelFile {
			return s.takeLabel(f)
		}
		return f, s.tar, nil
	}
}

// begin begins the next archive. It returns a file for a tablespace's directory, because the server only sends its
// content, and for the server's manifest.
func (s *source) begin() (f backup.File, r io.Reader, err error) {
	a, err := s.s.Next()
	if err != nil {
		return f, nil, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	if a.Manifest {
		size, content, err := readPieces(s.s)
		if err != nil {
			return f, nil, err
		}
		return backup.File{Path: manifestFile, Mode: 0o600, ModTime: now, Size: size}, content, nil
	}
	s.tar, s.dir = tar.NewReader(s.s), ""
	if a.Tablespace.OID != 0 {
		s.dir = fmt.Sprintf("pg_tblspc/%d/", a.Tablespace.OID)
		s.known[path.Clean(s.dir)] = true
		return backup.File{Path: path.Clean(s.dir), Dir: true, Mode: 0o700, ModTime: now}, nil, nil
	}
	return f, nil, nil
}

// readPieces reads to the end, and returns the number of bytes and a reader of them. That of many files is large, so it is not kept in
// one piece, which would have to grow.
func readPieces(r io.Reader) (size int64, _ io.Reader, _ error) {
	const piece = 1 << 20
	var all []io.Reader
	for {
		b := make([]byte, piece)
		n, err := io.ReadFull(r, b)
		size += int64(n)
		all = append(all, bytes.NewReader(b[:n]))
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return size, io.MultiReader(all...), nil
		case err != nil:
			return 0, nil, err
		}
	}
}

// file returns the file of a tar header. It returns false for the links to tablespaces, which the manifest contains.
func (s *source) file(h *tar.Header) (backup.File, bool, error) {
	name := path.Clean(s.dir + strings.TrimPrefix(h.Name, "./"))
	f := backup.File{Path: name, Mode: uint32(h.Mode) & 0o777, ModTime: h.ModTime.UTC()}
	switch h.Typeflag {
	case tar.TypeReg:
		f.Size = h.Size
	case tar.TypeDir:
		f.Dir = true
	case tar.TypeSymlink:
		if path.Dir(name) == "pg_tblspc" {
			return f, false, nil
		}
		fallthrough
	default:
		return f, false, fmt.Errorf("the server sends %q, which is neither a file nor a directory", h.Name)
	}
	// A tablespace in the data directory is a directory there as well as an archive of its own.
	if name == "." || f.Dir && (name == path.Clean(s.dir) || s.known[name]) {
		return f, false, nil
	}
	if backup.CheckPath(name) != nil {
		// The message has the name unchanged, although no system accepts it as a path, for users who look for the
		// file.
		return f, false, fmt.Errorf("%w: %s", ErrName, name)
	}
	return f, true, nil
}

func (s *source) takeLabel(f backup.File) (backup.File, io.Reader, error) {
	if f.Size > maxLabel {
		return f, nil, fmt.Errorf("%s has %d bytes", labelFile, f.Size)
	}
	content, err := io.ReadAll(s.tar)
	if err != nil {
		return f, nil, err
	}
	s.label = content
	return f, bytes.NewReader(content), nil
}
