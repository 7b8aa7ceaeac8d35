package wal

// A Change is a record that reaches beyond the files of the data directory when it is replayed: to a place outside, or to
// what the server must be set to.
type Change struct {
	// Start is the record's first byte, End its last, rounded up to the next multiple of 8, and Prev the first byte of the
	// record before.
	Start, End, Prev LSN
	// Tablespace is one that is created; nil for another change.
	Tablespace *NewTablespace
	// Limits are what the server was started with; nil for another change.
	Limits *Limits
}

// A NewTablespace is made by CREATE TABLESPACE. Replay makes its directory and the link to it again, whatever is there:
// what the link pg_tblspc/OID says before does not matter.
//
// Source: create_tablespace_directories in src/backend/commands/tablespace.c.
type NewTablespace struct {
	OID      uint32
	Location string // empty for one in the data directory
}

// Limits are settings of which a server that lets people connect during recovery must have at least what the primary had.
//
// Source: CheckRequiredParameterValues in src/backend/access/transam/xlogrecovery.c (xlog.c up to 14).
type Limits struct {
	Connections          int // max_connections
	WorkerProcesses      int // max_worker_processes
	WALSenders           int // max_wal_senders, since 12
	PreparedTransactions int // max_prepared_transactions
	LocksPerTransaction  int // max_locks_per_transaction
}

// Max is the larger of each.
func (l Limits) Max(other Limits) Limits {
	return Limits{
		max(l.Connections, other.Connections), max(l.WorkerProcesses, other.WorkerProcesses), max(l.WALSenders, other.WALSenders),
		max(l.PreparedTransactions, other.PreparedTransactions), max(l.LocksPerTransaction, other.LocksPerTransaction),
	}
}

// Records of the resource managers XLOG (0) and Tablespace (5).
//
// Source: src/include/catalog/pg_control.h, src/include/access/rmgrlist.h and src/include/commands/tablespace.h, the same in
// all of 10 to 19.
const (
	rmgrTablespace      = 5
	tablespaceCreate    = 0x00
	xlogParameterChange = 0x60
)

// changing reports whether a record with this header is a Change.
func changing(rmgr, info byte) bool {
	switch rmgr {
	case rmgrXLog:
		return info&infoRmgr == xlogParameterChange
	case rmgrTablespace:
		return info&infoRmgr == tablespaceCreate
	}
	return false
}

// change hands a record to Changes, if it is one. data is what follows its header.
func (w *Walker) change(header, data []byte, start, end LSN) {
	if w.Changes == nil || !changing(header[recordRmgr], header[recordInfo]) {
		return
	}
	c := Change{Start: start, End: end, Prev: LSN(le64(header[recordPrev:]))}
	data = mainData(data)
	if header[recordRmgr] == rmgrTablespace {
		if len(data) < 5 {
			return // no server writes such a record, and recovery would not get past it
		}
		c.Tablespace = &NewTablespace{OID: le32(data), Location: text(data[4:])}
	} else if c.Limits = parameters(data, w.res.Header.Major()); c.Limits == nil {
		return
	}
	w.Changes(c)
}

// parameters reads xl_parameter_change (src/include/access/xlog_internal.h).
func parameters(data []byte, major int) *Limits {
	var l Limits
	all := []*int{&l.Connections, &l.WorkerProcesses, &l.WALSenders, &l.PreparedTransactions, &l.LocksPerTransaction}
	if major != 0 && major < 12 {
		all = []*int{&l.Connections, &l.WorkerProcesses, &l.PreparedTransactions, &l.LocksPerTransaction}
	}
	for i, field := range all {
		if len(data) < 4*i+4 {
			return nil
		}
		*field = int(int32(le32(data[4*i:])))
	}
	return &l
}
