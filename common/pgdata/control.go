package pgdata

import (
	"encoding/binary"
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

// ReadControl reads global/pg_control. Its fields are those of ControlFileData in src/include/catalog/pg_control.h: 11 has
// lost the position of the checkpoint before, and since 12 the copy of the checkpoint is longer by the epoch.
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
	checkpoint, length := 40, 88
	switch version := le32(b[8:]); {
	case version == 1002: // 10
		checkpoint, length = 48, 80
	case version == 1100: // 11
		length = 80
	case version < 1200 || version > 9999:
		return c, fmt.Errorf("read %s: this is no control file that is known (version %d)", f.Name(), version)
	}
	minimum := checkpoint + length + 8 // behind the position of unlogged tables
	return Control{
		SystemID: wal.SystemID(le64(b[:])), State: DBState(le32(b[16:])), Checkpoint: wal.LSN(le64(b[32:])),
		Redo: wal.LSN(le64(b[checkpoint:])), Timeline: wal.Timeline(le32(b[checkpoint+8:])),
		MinRecovery: wal.LSN(le64(b[minimum:])), MinTimeline: wal.Timeline(le32(b[minimum+8:])),
	}, nil
}
