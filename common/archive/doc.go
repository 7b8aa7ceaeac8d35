// Package archive stores WAL files and base backups as objects on a [storage.Backend], and reads them back. It knows one object
// at a time. What follows from all of them together, such as what can be recovered, is decided by package recovery.
//
// # Layout
//
//	archive.json                                  identity: whose archive this is; written once, before all else
//	wal/<16 digits>/<name><ending>                segments, partial segments and backup label files, in directories of
//	                                              their timeline and log number
//	wal/<8 digits>.history<ending>                timelines' histories
//	wal/<16 digits>/<24 digits>.partial.<hash><ending>
//	                                              a second, different partial segment, by the XXH3-128 of its content,
//	                                              or the comparison tag where it is encrypted
//	partial/<name>.partial                        streamed bytes of the segment that is being written; its length is valid
//	partial/<name>/<offset>-<length><ending>      in a repository, pieces of the segment that is being written: stored
//	                                              objects of bytes of the segment, of which the offset and the number
//	                                              are 8 hexadecimal digits, upper-case. They are never changed, and end
//	                                              with a whole record. Those that follow each other from offset 0 on,
//	                                              without a hole, make up the beginning of the segment. They can
//	                                              overlap. Their trailers name them <name>/<offset>-<length>. Those of
//	                                              a segment that is stored are of no account
//	partial/<name>                                a segment that was streamed to its end and waits to be stored above
//	backups/<id>/                                 base backups; see package backup
//	setup.json                                    what the server was set to before supervisor setup changed it, for
//	                                              setup --undo; in a spool alone
//
// All other objects are notes; package notes lists them. The ending names the codec, and .age behind it says that the object is
// encrypted (package sealed), as segments, partial segments and pieces can be. A name that is stored with one ending is not stored again
// with another.
//
// # Promises
//
// What Push acknowledges is durable, whole, verified, and never replaced. What Deliver returns was compared with what was
// acknowledged.
//
// wal/ is made before archive.json. If archive.json is there and wal/ is not, the file system of wal/ is not mounted, or wal/ was
// lost ([ErrNoWAL]). Nothing is stored then, and nothing counts as absent.
//
// An Archive may be used concurrently.
package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"walkeep/common/codec"
	"walkeep/common/notes"
	"walkeep/common/sealed"
	"walkeep/common/storage"
	"walkeep/common/wal"
)

// Errors of an archive, to be found with errors.Is.
var (
	// The file is not archived, and never will be under this name.
	ErrNotWAL   = errors.New("not a WAL file of its name")
	ErrForeign  = errors.New("of another cluster")
	ErrConflict = errors.New("another content is archived under this name")
	ErrBroken   = errors.New("WAL records are broken")

	// The file is not there: no object of its name is. Whether it must once have existed is for package recovery.
	ErrNotStored = errors.New("not in the archive")
	ErrNoWAL     = errors.New("wal/, the directory of the archived WAL, is not there, although archive.json is")

	// The archive could not be read, or not understood.
	ErrDamaged  = codec.ErrDamaged
	ErrNoFormat = errors.New("stored in a form that this version does not read")
	ErrUnbound  = errors.New("this is not an archive: it has no archive.json")
)

// An Archive is one cluster's archive.
type Archive struct {
	Workers   int  // cores on which one object is expanded; 0: all
	PlainOnly bool // objects are copies that this host has made: see codec.Object
	// AppendOnly is set for a repository: none but cleanup removes objects, whatever this caller may do.
	AppendOnly bool

	b    storage.Backend
	keys *sealed.Identities // nil: none
	id   Identity           // if its Version is not 0, nobody reads it again
}

// New takes the backend that holds the archive, or will hold it.
func New(b storage.Backend) *Archive { return &Archive{b: b} }

// WithKeys returns the same archive for one who has these private keys. Without them what an encrypted object holds cannot be
// read, and the error is [sealed.ErrNoKey]; what can be verified without keys still is.
func (a *Archive) WithKeys(keys *sealed.Identities) *Archive {
	with := *a
	with.keys = keys
	return &with
}

// Keys returns the private keys of [Archive.WithKeys].
func (a *Archive) Keys() *sealed.Identities { return a.keys }

// Backend returns the backend that holds the archive.
func (a *Archive) Backend() storage.Backend { return a.b }

// Notes returns the notes in the archive.
func (a *Archive) Notes() notes.Notes { return notes.In(a.b) }

// Identity is whose archive this is.
type Identity struct {
	Version     int             `json:"version"` // of the layout
	SystemID    wal.SystemID    `json:"system_identifier,string"`
	SegmentSize wal.SegmentSize `json:"segment_size"` // bytes
}

const (
	// IdentityName is the object that says whose archive this is.
	IdentityName    = "archive.json"
	identityVersion = 1
	maxNote         = 1 << 20 // bytes of any JSON object at the archive's root
)

// Assume returns the same archive, whose identity was read a moment ago and is not read again.
func (a *Archive) Assume(id Identity) *Archive {
	as := *a
	as.id = id
	return &as
}

// Identity reads the identity of the cluster to which the archive belongs; [ErrUnbound] if it belongs to none yet.
func (a *Archive) Identity(ctx context.Context) (Identity, error) {
	if a.id.Version != 0 {
		return a.id, nil
	}
	var id Identity
	content, err := storage.ReadAll(ctx, a.b, IdentityName, maxNote)
	if errors.Is(err, storage.ErrNotExist) {
		return id, ErrUnbound
	}
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(content, &id); err != nil {
		return id, fmt.Errorf("read %s: %w: %v", IdentityName, ErrDamaged, err)
	}
	if id.Version != identityVersion {
		return id, fmt.Errorf("%s has version %d, this program knows %d: %w", IdentityName, id.Version, identityVersion, ErrNoFormat)
	}
	if id.SystemID == 0 || !id.SegmentSize.Valid() {
		return id, fmt.Errorf("read %s: %w: system identifier %s, segment size %d", IdentityName, ErrDamaged, id.SystemID, id.SegmentSize)
	}
	return id, nil
}

// Bind makes an archive that belongs to no cluster the archive of want. It fails with [ErrForeign] if the archive
// belongs to another cluster.
func (a *Archive) Bind(ctx context.Context, want Identity) error {
	have, err := a.Identity(ctx)
	if errors.Is(err, ErrUnbound) {
		if err := a.writeIdentity(ctx, want); err != nil {
			return err
		}
		have, err = a.Identity(ctx)
	}
	if err != nil {
		return err
	}
	if have.SystemID != want.SystemID {
		return fmt.Errorf("%w: its system identifier is %s, that of the archive %s", ErrForeign, want.SystemID, have.SystemID)
	}
	if have.SegmentSize != want.SegmentSize {
		return fmt.Errorf("%w: its segments have %d bytes, those of the archive %d", ErrForeign, want.SegmentSize, have.SegmentSize)
	}
	return nil
}

// Location is where a file's stored objects are: the common beginning of their names, before the ending.
func Location(n wal.Name) string {
	if n.Kind == wal.KindHistory {
		return WALDir + n.String()
	}
	return Directory(n) + n.String()
}

// Directory returns the directory that holds the files of a timeline and log number.
func Directory(n wal.Name) string { return fmt.Sprintf("%s%s%08X/", WALDir, n.Timeline, n.Log) }

// A stored is one object that holds a file, or is named as if it did.
type stored struct {
	storage.Entry
	codec     codec.Codec // nil if the ending is of no codec that can be read here
	encrypted bool
	variant   bool  // a partial segment beside the first
	bad       error // why nothing can be read from it, as its listing says; nil if it may hold the file
}

// stray reports whether an object is only named like one that holds a file: its ending is of nothing that is stored, or it
// is a directory.
func (s stored) stray() bool { return s.codec == nil || s.IsDir() }

// parseObject reads the name of an object: which WAL file it holds, or is named after, and by its ending how. Whatever
// else lies there is of no account.
func parseObject(e storage.Entry) (wal.Name, stored, bool) {
	s := stored{Entry: e}
	base := path.Base(e.Name)
	for end := len(base); end > 0; end = strings.LastIndexByte(base[:end], '.') {
		n, err := wal.ParseName(base[:end])
		if err != nil {
			continue
		}
		rest := base[end:]
		if n.Kind == wal.KindPartial && isVariant(rest) {
			rest, s.variant = rest[variantLength:], true
		}
		known := false
		s.codec, s.encrypted, known = sealed.ByExt(rest)
		switch {
		case strings.TrimSuffix(e.Name, "/") != Location(n)+base[end:]:
			return n, s, false // it is not where it would be looked for
		case !known:
			s.bad = fmt.Errorf("it is %w", ErrNoFormat)
		case e.IsDir():
			s.bad = errors.New("it is a directory")
		case e.Err != nil:
			s.bad = e.Err
		case e.Size == 0:
			s.bad = fmt.Errorf("%w: it is empty", ErrDamaged)
		}
		return n, s, true
	}
	return wal.Name{}, s, false
}

// find lists the objects that hold a file, under whatever ending, those first from which it can be read.
func (a *Archive) find(ctx context.Context, n wal.Name) ([]stored, error) {
	entries, err := storage.ListAll(ctx, a.b, Location(n))
	if err != nil {
		return nil, err
	}
	var found, bad []stored
	for _, e := range entries {
		switch name, s, ok := parseObject(e); {
		case !ok || name != n:
		case s.bad != nil:
			bad = append(bad, s)
		default:
			found = append(found, s)
		}
	}
	if len(found)+len(bad) == 0 && n.Kind != wal.KindHistory {
		_, err = a.LogDirs(ctx, n.Timeline) // one that cannot be entered may hold it
	}
	return append(found, bad...), err
}

// variantLength is that of the dot and the hash that stand between a variant's name and its ending.
const variantLength = 1 + 32

func isVariant(rest string) bool { return len(rest) > variantLength && rest[variantLength] == '.' }

// writeIdentity leaves an identity alone that another writer has written meanwhile.
func (a *Archive) writeIdentity(ctx context.Context, id Identity) error {
	id.Version = identityVersion
	content, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if b, ok := storage.As[storage.Directories](a.b); ok {
		if err := b.MakeDir(ctx, strings.TrimSuffix(WALDir, "/")); err != nil {
			return fmt.Errorf("make %s: %w", WALDir, err)
		}
	}
	if err := storage.PutAll(ctx, a.b, IdentityName, append(content, '\n')); err != nil && !errors.Is(err, storage.ErrExist) {
		return fmt.Errorf("write %s: %w", IdentityName, err)
	}
	return nil
}
