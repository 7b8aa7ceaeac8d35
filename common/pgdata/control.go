package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"walkeep/common/durable"
	"walkeep/common/wal"
)

// A Control is the part of a control file that describes how far a cluster's WAL has come.
type Control struct {
	SystemID   wal.SystemID
	State      DBState
	Checkpoint wal.LSN // where the record of the last checkpoint or restartpoint begins
	Redo       wal.LSN // from where recovery replays after a crash
	Timeline   wal.Timeline
	// MinRecovery is up to where a standby has to replay before it is consistent; 0 for a primary. MinTimeline is that
	// position's timeline.
	MinRecovery wal.LSN
	MinTimeline wal.Timeline
}

// End is the last position that the control file knows of, and its timeline. WAL may have gone on behind it.
func (c Control) End() (wal.LSN, wal.Timeline) {
	if c.MinRecovery > c.Checkpoint {
		return c.MinRecovery, c.MinTimeline
	}
	return c.Checkpoint, c.Timeline
}

// ErrControlVersion says that a control file has a version that is not known, so that the places of its fields are not
// known, either. A version newer than those is that of a PostgreSQL to come.
var ErrControlVersion = errors.New("its control file has a version that is not known")

// controls are the versions of the control file with the offset of its copy of the checkpoint and that copy's length, both in
// bytes. 11 has lost the position of the checkpoint before; since 12 the copy is longer by the epoch, and since 19 by
// what is said of checksums and logical decoding.
var controls = map[uint32]layout{
	1002: {48, 80}, // 10
	1100: {40, 80}, // 11
	1201: {40, 88}, // 12
	1300: {40, 88}, // 13 to 16
	1700: {40, 88},
	1800: {40, 88},
	1905: {40, 96},
}

// layout is where the fields of a control file of this version are.
type layout struct{ checkpoint, length int }

// layoutOf finds the layout of a control file by its version, which comes second in every release, behind the system
// identifier.
func layoutOf(b []byte) (layout, error) {
	version := binary.LittleEndian.Uint32(b[offVersion:])
	at, known := controls[version]
	if !known {
		return at, fmt.Errorf("%w (%d)", ErrControlVersion, version)
	}
	return at, nil
}

// Offsets of the fields that lie there in every release so far, in bytes.
const (
	offVersion    = 8
	offCatalog    = 12
	offState      = 16
	offCheckpoint = 32
)

// readControl reads the first n bytes of global/pg_control.
func readControl(dir string, n int) ([]byte, error) {
	f, err := durable.Open(filepath.Join(dir, "global", "pg_control"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b := make([]byte, n)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return b, nil
}

// SystemID reads the cluster's system identifier from global/pg_control; 0 if there is no such file. The identifier is
// the first field in every release, of those to come, too.
func SystemID(dir string) (wal.SystemID, error) {
	b, err := readControl(dir, offVersion+4)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	id, version := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[offVersion:])
	if id == 0 || version < 900 || version > 9999 {
		return 0, fmt.Errorf("read global/pg_control of %s: this is no control file (version %d)", dir, version)
	}
	return wal.SystemID(id), nil
}

// A DBState is the state of a cluster, as its control file has it.
type DBState uint32

// The states that are looked for (DBState in src/include/catalog/pg_control.h, the same in all releases).
const (
	ShutDown           DBState = 1
	ShutDownInRecovery DBState = 2
	InProduction       DBState = 6
)

// State reads the state of a cluster from global/pg_control. Of a release to come its place is taken for granted.
func State(dir string) (DBState, error) {
	b, err := readControl(dir, offState+4)
	if err != nil {
		return 0, err
	}
	return DBState(binary.LittleEndian.Uint32(b[offState:])), nil
}

// ReadControl reads global/pg_control. Its fields are those of ControlFileData in src/include/catalog/pg_control.h. A version
// that is not known is an [ErrControlVersion].
func ReadControl(dir string) (Control, error) {
	b, err := readControl(dir, 160)
	if err != nil {
		return Control{}, err
	}
	at, err := layoutOf(b)
	if err != nil {
		return Control{}, fmt.Errorf("read global/pg_control of %s: %w", dir, err)
	}
	le32, le64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	minimum := at.minimum()
	return Control{
		SystemID: wal.SystemID(le64(b)), State: DBState(le32(b[offState:])), Checkpoint: wal.LSN(le64(b[offCheckpoint:])),
		Redo: wal.LSN(le64(b[at.checkpoint:])), Timeline: wal.Timeline(le32(b[at.checkpoint+8:])),
		MinRecovery: wal.LSN(le64(b[minimum:])), MinTimeline: wal.Timeline(le32(b[minimum+8:])),
	}, nil
}

// minimum is the offset of the minimum recovery point, behind the position of unlogged tables.
func (l layout) minimum() int { return l.checkpoint + l.length + 8 }

// CatalogVersion returns the version of the system catalogs from a control file's content. It names the directories in
// tablespaces, and is the third field in every release.
func CatalogVersion(control []byte) uint32 { return binary.LittleEndian.Uint32(control[offCatalog:]) }

// A control file's checksum follows its last field, which is at another place in each release, between these two offsets in bytes.
const leastControl, mostControl = 200, 512

const (
	controlTries = 500
	controlPause = 10 * time.Millisecond
)

// ErrControlChecksum reports that a control file has a wrong checksum.
var ErrControlChecksum = errors.New("the checksum of global/pg_control is wrong")

// ReadWholeControl reads all bytes of global/pg_control of a running server. It reads again, for about 5 seconds, while
// the checksum is wrong, since the server may be writing the file.
func ReadWholeControl(dir string) ([]byte, error) {
	name := filepath.Join(dir, "global", "pg_control")
	for try := 0; ; try++ {
		b, err := readWhole(name)
		if err != nil {
			return nil, err
		}
		if intact(b) {
			return b, nil
		}
		if try == controlTries {
			return nil, fmt.Errorf("read %s: %w", name, ErrControlChecksum)
		}
		time.Sleep(controlPause)
	}
}

func readWhole(name string) ([]byte, error) {
	f, err := durable.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

// intact reports whether a control file has the right checksum.
func intact(b []byte) bool {
	table := crc32.MakeTable(crc32.Castagnoli)
	for at := leastControl; at <= mostControl && at+4 <= len(b); at += 4 {
		if crc32.Checksum(b[:at], table) == binary.LittleEndian.Uint32(b[at:]) {
			return true
		}
	}
	return false
}
