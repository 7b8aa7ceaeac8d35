package archive

import (
	"context"
	"errors"
	"time"

	"walkeep/common/wal"
)

// TargetKind is what a recovery goes to.
type TargetKind string

// The kinds of targets, as PostgreSQL has them.
const (
	ToLatest    TargetKind = "latest"    // the end of the WAL
	ToImmediate TargetKind = "immediate" // where the backup is consistent
	ToTime      TargetKind = "time"
	ToXID       TargetKind = "xid"
	ToLSN       TargetKind = "lsn"
	ToName      TargetKind = "name" // a restore point
)

// A Target is a point to which a cluster is to be recovered.
type Target struct {
	Kind      TargetKind
	Time      time.Time    // for ToTime
	XID       uint32       // for ToXID
	LSN       wal.LSN      // for ToLSN
	Name      string       // for ToName
	Exclusive bool         // stop before it (recovery_target_inclusive = off)
	Timeline  wal.Timeline // along which recovery goes; 0: the newest
}

// A Plan is how a target is reached.
type Plan struct {
	Reach
	Target Target
	// At is where in the WAL recovery will end; 0 where that is the end of all WAL, or the backup's own.
	At wal.LSN
	// Until is the last segment that is replayed.
	Until wal.Name
}

// ErrUnreachable says that a target cannot be reached; its text says what can.
var ErrUnreachable = errors.New("cannot be recovered")

// Plan finds the backup from which a target is reached with the least WAL, or takes the one with this id, and makes
// sure that the target is there: nothing is copied before it is known that recovery will end where it should.
func (a *Archive) Plan(ctx context.Context, inv *Inventory, t Target, id string) (Plan, error) {
	return Plan{}, errors.New("not written yet")
}
