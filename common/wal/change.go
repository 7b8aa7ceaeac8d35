package wal

// A Change is a record whose effect a recovery target does not undo: its replay writes outside of the data directory, requires
// a setting of the server, or removes a database's files before the commit of the transaction that drops the database.
// Records that such a change is judged by (rows of shared tables, ends of transactions) are Changes, too. Exactly one of
// Tablespace, Limits, Dropped, Row and Ended is set.
type Change struct {
	// Start is the record's first byte, End its last, rounded up to the next multiple of 8, and Prev the first byte of the
	// record before.
	Start, End, Prev LSN
	// Tablespace is a tablespace that the record creates; nil for another change.
	Tablespace *NewTablespace
	// Limits are the settings with which the server was started; nil for another change.
	Limits *Limits
	// Dropped is the OID of a database whose files the record's transaction removes; 0 for another change.
	Dropped uint32
	// Row is a changed row of a table that all databases share; nil for another change.
	Row *SharedRow
	// Ended is a transaction that commits (Committed is true) or is rolled back; 0 for another change.
	Ended     uint32
	Committed bool
	// XID is the transaction that writes the record; 0 if it has none.
	XID uint32
}

// A NewTablespace is a tablespace that CREATE TABLESPACE created. Replay creates its directory and the link pg_tblspc/OID
// again, and overwrites a link that leads elsewhere.
//
// Source: create_tablespace_directories in src/backend/commands/tablespace.c.
type NewTablespace struct {
	OID      uint32
	Location string // empty for one in the data directory
}

// Limits are settings that may not be lower than the primary's on a server that accepts connections during recovery.
//
// Source: CheckRequiredParameterValues in src/backend/access/transam/xlogrecovery.c (xlog.c up to 14).
type Limits struct {
	Connections          int // max_connections
	WorkerProcesses      int // max_worker_processes
	WALSenders           int // max_wal_senders, since 12
	PreparedTransactions int // max_prepared_transactions
	LocksPerTransaction  int // max_locks_per_transaction
}

// Max returns the larger value of each setting.
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

// changing reports whether a record with this resource manager and info byte can be a Change.
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

// change calls Changes if the record is a [Change]. data is the record's content behind its header.
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
		if known = len(data) >= 5; known { // no server writes a shorter record, and recovery would fail at it
			c.Tablespace = &NewTablespace{OID: le32(data), Location: text(data[4:])}
		}
	case rmgrDatabase:
		c.Dropped = droppedDatabase(mainData(data), header[recordInfo]&infoRmgr, major)
		known = c.Dropped != 0 && c.XID != 0 // a record without a transaction moves the files to another tablespace
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

// parameters reads xl_parameter_change (src/include/access/xlog_internal.h); nil if it is cut off.
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
