package wal

// A Change is a record whose replay a target does not undo: it reaches to a place outside of the data directory, asks for a
// setting of the server, or removes a database's files before the transaction that drops it ends. Each has one of the
// fields that say what it is.
type Change struct {
	// Start is the record's first byte, End its last, rounded up to the next multiple of 8, and Prev the first byte of the
	// record before.
	Start, End, Prev LSN
	// Tablespace is one that is created; nil for another change.
	Tablespace *NewTablespace
	// Limits are what the server was started with; nil for another change.
	Limits *Limits
	// Dropped is the OID of a database whose files are removed by a transaction; 0 for another change.
	Dropped uint32
	// Row is a row of a table that all databases share; nil for another change.
	Row *SharedRow
	// Ended is a transaction that commits (Committed) or is rolled back; 0 for another change.
	Ended     uint32
	Committed bool
	// XID is the transaction that writes the record; 0 if it has none.
	XID uint32
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
	case rmgrDatabase:
		return info&infoRmgr == databaseDrop || info&infoRmgr == databaseDrop14
	case rmgrHeap:
		_, ok := rowChange(info)
		return ok
	case rmgrXact:
		return info&infoXact == xactCommit || info&infoXact == xactAbort
	}
	return false
}

// change hands a record to Changes, if it is one. data is what follows its header.
func (w *Walker) change(header, data []byte, start, end LSN) {
	if w.Changes == nil || !changing(header[recordRmgr], header[recordInfo]) {
		return
	}
	c := Change{Start: start, End: end, Prev: LSN(le64(header[recordPrev:]))}
	major := w.res.Header.Major()
	c.XID = le32(header[recordXID:])
	known := true
	switch header[recordRmgr] {
	case rmgrTablespace:
		data = mainData(data)
		if known = len(data) >= 5; known { // else no server writes such a record, and recovery would not get past it
			c.Tablespace = &NewTablespace{OID: le32(data), Location: text(data[4:])}
		}
	case rmgrDatabase:
		c.Dropped = droppedDatabase(mainData(data), header[recordInfo]&infoRmgr, major)
		known = c.Dropped != 0 && c.XID != 0 // without a transaction, files were moved to another tablespace
	case rmgrHeap:
		what, _ := rowChange(header[recordInfo])
		c.Row = sharedRow(data, what, major)
		known = c.Row != nil
	case rmgrXact:
		c.Ended, c.Committed = c.XID, header[recordInfo]&infoXact == xactCommit
	default:
		c.Limits = parameters(mainData(data), major)
		known = c.Limits != nil
	}
	if known {
		w.Changes(c)
	}
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
