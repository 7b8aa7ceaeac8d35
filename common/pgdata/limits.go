package pgdata

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"walkeep/common/wal"
)

// limitsEnd is behind all limits in a control file of any version.
const limitsEnd = 256

// ReadLimits reads from global/pg_control what the server must at least be set to so that people can connect while it
// recovers: it knows what the primary was started with.
func ReadLimits(dir string) (wal.Limits, error) {
	b, err := readControl(dir, limitsEnd)
	if err != nil {
		return wal.Limits{}, err
	}
	return ParseLimits(b)
}

// ParseLimits is ReadLimits of the control file's content. The fields follow the minimum recovery point and the positions of
// a backup in ControlFileData.
func ParseLimits(b []byte) (wal.Limits, error) {
	var l wal.Limits
	if len(b) < limitsEnd {
		return l, fmt.Errorf("a control file of %d bytes", len(b))
	}
	at, err := layoutOf(b)
	if err != nil {
		return l, err
	}
	all := []*int{&l.Connections, &l.WorkerProcesses, &l.WALSenders, &l.PreparedTransactions, &l.LocksPerTransaction}
	if binary.LittleEndian.Uint32(b[offVersion:]) < 1200 {
		all = []*int{&l.Connections, &l.WorkerProcesses, &l.PreparedTransactions, &l.LocksPerTransaction}
	}
	for i, field := range all {
		*field = int(int32(binary.LittleEndian.Uint32(b[at.minimum()+44+4*i:])))
	}
	return l, nil
}

// A Limit is a setting of a recovering server, which must be at least what the server that wrote the WAL had.
type Limit struct {
	Name            string
	Needed, Default int
}

// TooLow gives the limits that settings do not reach; what is not among them has PostgreSQL's default.
func TooLow(l wal.Limits, major int, set map[string]string) []Limit {
	locks := 64
	if major >= 19 {
		locks = 128
	}
	all := []Limit{
		{"max_connections", l.Connections, 100}, {"max_worker_processes", l.WorkerProcesses, 8},
		{"max_prepared_transactions", l.PreparedTransactions, 0}, {"max_locks_per_transaction", l.LocksPerTransaction, locks},
	}
	if major >= 12 {
		all = append(all, Limit{"max_wal_senders", l.WALSenders, 10})
	}
	return slices.DeleteFunc(all, func(l Limit) bool {
		value, given := set[l.Name]
		if !given {
			return l.Default >= l.Needed
		}
		n, err := strconv.Atoi(value)
		return err == nil && n >= l.Needed
	})
}

// Demand describes to what settings that are too low must be raised.
func Demand(low []Limit) string {
	var words []string
	for _, l := range low {
		words = append(words, fmt.Sprintf("%s must be at least %d", l.Name, l.Needed))
	}
	return strings.Join(words, ", ") + ", as on the server that wrote the WAL"
}
