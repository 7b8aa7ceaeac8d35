// Package archive is walkeep's archive on a [storage.Backend]: what is where, what may be stored, and what can be
// given back.
//
// # Layout
//
//	archive.json                                  identity: whose archive this is; written once, before all else
//	wal/<16 digits>/<name><ending>                segments, partial segments and backup label files, in directories of
//	                                              their timeline and log number
//	wal/<8 digits>.history<ending>                timelines' histories
//	wal/<16 digits>/<24 digits>.partial.<hash><ending>
//	                                              a second, different partial segment, by the XXH3-128 of its content
//	partial/<name>.partial                        streamed bytes of the segment that is being written; its length is valid
//	partial/<name>                                a segment that was streamed to its end and waits to be stored above
//	streams/<slot>.json                           how streaming goes; a note that is replaced about once a second
//	backups/<id>/                                 base backups; see package backup
//	standbys/<id>.json                            what a standby still needs; a note that is replaced as it moves on
//	offers/<id>.json                              the streamed part of a segment that a standby gets before its promotion
//	leases/<id>.json                              what a running backup or restore needs; renewed while it runs
//	damaged/<name>.json                           a segment that was archived with broken records
//	verified/<backup id>.json                     what verify and drill have found of a backup; replaced by the next
//	                                              verification or drill, and removed with the backup
//	verified/<name>.json                          a segment that verify --deep has found damaged; removed when it is
//	                                              whole again
//	server.json                                   what the production server said when it was asked last: its timeline
//	                                              and position
//	setup.json                                    what the server was set to before supervisor setup changed it, for
//	                                              setup --undo; in a spool alone
//
// The ending says the codec. A name that is stored with one ending is not stored again with another.
//
// # Promises
//
// What Push acknowledges is durable, whole, verified and will not be replaced by anything. What Fetch delivers has been
// compared with what was acknowledged. Absent means that the archive was there, answered, and that nothing else in it
// shows that the file must once have existed. A server that is to get to a newer timeline gets an older one's WAL only as
// far as that leads there; see [Archive.OnWay].
package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"strings"

	"walkeep/common/codec"
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

	// The file is not there: ErrAbsent is proven, ErrGap is a hole.
	ErrAbsent = errors.New("not in the archive")
	ErrGap    = errors.New("missing from the archive, which holds what came after it")

	// The archive cannot tell.
	ErrDamaged  = codec.ErrDamaged
	ErrNoFormat = errors.New("stored in a form that this version does not read")
	ErrUnbound  = errors.New("this is not an archive: it has no archive.json")
)

// An Archive is one cluster's archive.
type Archive struct {
	Workers int // cores on which one object is expanded; 0: all

	b storage.Backend
}

// New takes the backend that holds the archive, or will hold it.
func New(b storage.Backend) *Archive { return &Archive{b: b} }

// Identity is whose archive this is.
type Identity struct {
	Version     int             `json:"version"` // of the layout
	SystemID    wal.SystemID    `json:"system_identifier,string"`
	SegmentSize wal.SegmentSize `json:"segment_size"` // bytes
}

const (
	identityName    = "archive.json"
	identityVersion = 1
	maxNote         = 1 << 20 // bytes of any JSON object at the archive's root
)

// Identity reads whose archive this is; [ErrUnbound] if it belongs to nobody yet.
func (a *Archive) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	content, err := storage.ReadAll(ctx, a.b, identityName, maxNote)
	if errors.Is(err, storage.ErrNotExist) {
		return id, ErrUnbound
	}
	if err != nil {
		return id, err
	}
	if err := json.Unmarshal(content, &id); err != nil {
		return id, fmt.Errorf("read %s: %w: %v", identityName, ErrDamaged, err)
	}
	if id.Version != identityVersion {
		return id, fmt.Errorf("%s has version %d, this program knows %d: %w", identityName, id.Version, identityVersion, ErrNoFormat)
	}
	if id.SystemID == 0 || !id.SegmentSize.Valid() {
		return id, fmt.Errorf("read %s: %w: system identifier %s, segment size %d", identityName, ErrDamaged, id.SystemID, id.SegmentSize)
	}
	return id, nil
}

// Bind makes the archive that of want, if it is nobody's, and fails with [ErrForeign] if it is another's.
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

// location is where a file's stored objects are: the common beginning of their names, before the ending.
func location(n wal.Name) string {
	if n.Kind == wal.KindHistory {
		return "wal/" + n.String()
	}
	return directory(n) + n.String()
}

// directory holds the files of a timeline and log number.
func directory(n wal.Name) string { return fmt.Sprintf("wal/%s%08X/", n.Timeline, n.Log) }

// A stored is one object that holds a file.
type stored struct {
	storage.Entry
	codec   codec.Codec // nil if the ending is of no codec that can be read here
	variant bool        // a partial segment beside the first
}

// find lists the objects that hold a file, under whatever ending.
func (a *Archive) find(ctx context.Context, n wal.Name) ([]stored, error) {
	at := location(n)
	entries, err := a.b.List(ctx, at)
	if err != nil {
		return nil, err
	}
	var found []stored
	for _, e := range entries {
		rest := e.Name[len(at):]
		if e.IsDir() || rest != "" && rest[0] != '.' {
			continue
		}
		if n.Kind == wal.KindSegment && !sameFile(n, path.Base(e.Name)) {
			continue
		}
		s := stored{Entry: e}
		if n.Kind == wal.KindPartial && isVariant(rest) {
			rest, s.variant = rest[variantLength:], true
		}
		s.codec, _ = codec.ByExt(rest)
		found = append(found, s)
	}
	return found, nil
}

// variantLength is that of the dot and the hash that stand between a variant's name and its ending.
const variantLength = 1 + 32

func isVariant(rest string) bool { return len(rest) > variantLength && rest[variantLength] == '.' }

// sameFile tells a segment's objects from those of its partial segment and of its backup label files, whose names
// begin alike.
func sameFile(n wal.Name, object string) bool {
	for {
		if name, err := wal.ParseName(object); err == nil {
			return name == n
		}
		dot := strings.LastIndexByte(object, '.')
		if dot < 0 {
			return false
		}
		object = object[:dot]
	}
}

// writeIdentity leaves an identity alone that another writer has written meanwhile.
func (a *Archive) writeIdentity(ctx context.Context, id Identity) error {
	id.Version = identityVersion
	content, err := json.Marshal(id)
	if err != nil {
		return err
	}
	if err := storage.PutAll(ctx, a.b, identityName, append(content, '\n')); err != nil && !errors.Is(err, storage.ErrExist) {
		return fmt.Errorf("write %s: %w", identityName, err)
	}
	return nil
}
