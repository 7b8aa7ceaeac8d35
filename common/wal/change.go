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
	// Dropped is the OID of a database whose files are removed; 0 for another change. XID is the transaction that drops it.
	Dropped, XID uint32
	// Marked says that a row of pg_database is changed in place, as DROP DATABASE begins with: nobody can connect any more.
	Marked bool
	// Ended is the transaction that commits or is rolled back; 0 for another change.
	Ended uint32
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

// Records of the resource managers Database (4) and Heap (10).
//
// Source: src/include/commands/dbcommands_xlog.h, src/include/access/heapam_xlog.h, src/include/access/xlogrecord.h.
const (
	rmgrDatabase   = 4
	databaseDrop   = 0x20
	databaseDrop14 = 0x10 // up to 14
	rmgrHeap       = 10
	heapOperation  = 0x70 // the bits of xl_info that say what is done
	heapInPlace    = 0x70

	blockHasImage = 0x10 // bits of a block reference
	blockSameRel  = 0x80
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
		return info&heapOperation == heapInPlace
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
		data = mainData(data)
		drop := byte(databaseDrop)
		if major != 0 && major <= 14 {
			drop = databaseDrop14
		}
		if known = header[recordInfo]&infoRmgr == drop && len(data) >= 4 && c.XID != 0; known { // without a transaction, files were moved to another tablespace
			c.Dropped = le32(data)
		}
	case rmgrHeap:
		c.Marked = ofDatabases(data, major)
		known = c.Marked
	case rmgrXact:
		c.Ended = c.XID
	default:
		c.Limits = parameters(mainData(data), major)
		known = c.Limits != nil
	}
	if known {
		w.Changes(c)
	}
}

// ofDatabases reports whether the first block of a change in place is of pg_database: of the tables that all databases share, no
// other one is changed so. Its own number is another one after VACUUM FULL.
func ofDatabases(data []byte, major int) bool {
	if len(data) < 4 || data[0] != 0 || data[1]&blockSameRel != 0 {
		return false
	}
	at := 4
	if data[1]&blockHasImage != 0 {
		if len(data) < at+5 {
			return false
		}
		const hole = 0x01
		compressed := byte(0x1C)
		if major != 0 && major <= 14 {
			compressed = 0x02
		}
		info := data[at+4]
		if at += 5; info&hole != 0 && info&compressed != 0 {
			at += 2
		}
	}
	const global = 1664
	return len(data) >= at+12 && le32(data[at:]) == global && le32(data[at+4:]) == 0
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
