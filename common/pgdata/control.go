package pgdata

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"walkeep/common/durable"
	"walkeep/common/wal"
)

// A Control is what the control file says about where a cluster's WAL has come to.
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
var controls = map[uint32]struct{ checkpoint, length int }{
	1002: {48, 80}, // 10
	1100: {40, 80}, // 11
	1201: {40, 88}, // 12
	1300: {40, 88}, // 13 to 16
	1700: {40, 88},
	1800: {40, 88},
	1905: {40, 96},
}

// ReadControl reads global/pg_control. Its fields are those of ControlFileData in src/include/catalog/pg_control.h. A version
// that is not known is an [ErrControlVersion].
func ReadControl(dir string) (Control, error) {
	var c Control
	f, err := durable.Open(filepath.Join(dir, "global", "pg_control"))
	if err != nil {
		return c, err
	}
	defer f.Close()
	var b [160]byte
	if _, err := io.ReadFull(f, b[:]); err != nil {
		return c, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	le32, le64 := binary.LittleEndian.Uint32, binary.LittleEndian.Uint64
	version := le32(b[8:])
	at, known := controls[version]
	if !known {
		return c, fmt.Errorf("read %s: %w (%d)", f.Name(), ErrControlVersion, version)
	}
	minimum := at.checkpoint + at.length + 8 // behind the position of unlogged tables
	return Control{
		SystemID: wal.SystemID(le64(b[:])), State: DBState(le32(b[16:])), Checkpoint: wal.LSN(le64(b[32:])),
		Redo: wal.LSN(le64(b[at.checkpoint:])), Timeline: wal.Timeline(le32(b[at.checkpoint+8:])),
		MinRecovery: wal.LSN(le64(b[minimum:])), MinTimeline: wal.Timeline(le32(b[minimum+8:])),
	}, nil
}
