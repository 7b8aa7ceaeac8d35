package pgdata

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"walkeep/common/wal"
)

// ReadLimits reads from global/pg_control what the server must at least be set to so that people can connect while it
// recovers: it knows what the primary was started with.
func ReadLimits(dir string) (wal.Limits, error) {
	b, err := os.ReadFile(filepath.Join(dir, "global", "pg_control"))
	if err != nil {
		return wal.Limits{}, err
	}
	return ParseLimits(b)
}

// ParseLimits is ReadLimits of the control file's content. The fields follow the minimum recovery point and the positions of
// a backup in ControlFileData.
func ParseLimits(b []byte) (wal.Limits, error) {
	var l wal.Limits
	le32 := binary.LittleEndian.Uint32
	if len(b) < 256 {
		return l, fmt.Errorf("a control file of %d bytes", len(b))
	}
	version := le32(b[8:])
	at, ok := controls[version]
	if !ok {
		return l, fmt.Errorf("%w (%d)", ErrControlVersion, version)
	}
	all := []*int{&l.Connections, &l.WorkerProcesses, &l.WALSenders, &l.PreparedTransactions, &l.LocksPerTransaction}
	if version < 1200 {
		all = []*int{&l.Connections, &l.WorkerProcesses, &l.PreparedTransactions, &l.LocksPerTransaction}
	}
	for i, field := range all {
		*field = int(int32(le32(b[at.checkpoint+at.length+8+44+4*i:])))
	}
	return l, nil
}
