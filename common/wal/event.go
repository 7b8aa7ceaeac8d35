package wal

import "time"

// EventKind is the kind of an [Event].
type EventKind uint8

// The kinds of [Event].
const (
	Commit       EventKind = iota // COMMIT and COMMIT PREPARED
	Abort                         // ABORT and ABORT PREPARED
	RestorePoint                  // pg_create_restore_point
)

// String returns the kind in words, for messages.
func (k EventKind) String() string {
	switch k {
	case Commit:
		return "commit"
	case Abort:
		return "abort"
	}
	return "restore point"
}

// An Event is a record that recovery compares with its target: the end of a transaction, or a restore point.
//
// Source: recoveryStopsBefore and recoveryStopsAfter in [xlogrecovery.c].
//
// [xlogrecovery.c]: https://github.com/postgres/postgres/blob/REL_19_STABLE/src/backend/access/transam/xlogrecovery.c
type Event struct {
	Kind EventKind
	// Start is the record's first byte, End its last, rounded up to the next multiple of 8.
	Start, End LSN
	Time       time.Time // of the server's clock, UTC; recovery to a time ignores that of a restore point
	// XID is the transaction that ended, or the prepared transaction; zero for a restore point, and if it cannot be read.
	XID  uint32
	Name string // the restore point's name
}

// Records of the resource managers XLOG (0) and Transaction (1) that recovery compares with its target.
//
// Source: src/include/catalog/pg_control.h and src/include/access/xact.h, the same in all of 10 to 19.
const (
	rmgrXact         = 1
	xlogRestorePoint = 0x70

	infoXact           = 0x70 // the bits of xl_info that name the operation
	xactCommit         = 0x00
	xactAbort          = 0x20
	xactCommitPrepared = 0x30
	xactAbortPrepared  = 0x40
	xactHasInfo        = 0x80 // in xl_info: 4 bytes with the bits below follow the time
)

// xactParts are the optional parts of a record of a transaction's end, between its time and the prepared transaction, in
// the record's order. Counted items are preceded by their number, in 4 bytes.
//
// Source: ParseCommitRecord and ParseAbortRecord in src/backend/access/rmgrdesc/xactdesc.c.
var xactParts = []struct {
	bit   uint32
	fixed int // bytes; 0: counted items
	item  int // bytes
}{
	{1 << 0, 8, 0},  // database and tablespace
	{1 << 1, 0, 4},  // subtransactions
	{1 << 2, 0, 12}, // files to be removed
	{xactStats, 0, 12},
	{1 << 3, 0, 16}, // invalidation messages
}

const (
	xactStats    = 1 << 8 // statistics to be dropped, since 15; an item has 16 bytes since 18
	xactTwophase = 1 << 4 // 4 bytes, behind the above: the prepared transaction
)

// eventful reports whether a record with this resource manager and info byte is an Event.
func eventful(rmgr, info byte) bool {
	if rmgr == rmgrXLog {
		return info&infoRmgr == xlogRestorePoint
	}
	if rmgr != rmgrXact {
		return false
	}
	switch info & infoXact {
	case xactCommit, xactAbort, xactCommitPrepared, xactAbortPrepared:
		return true
	}
	return false
}

// keep appends part to w.data if the pending record can be an Event or a Change.
func (w *Walker) keep(part []byte) {
	p := &w.pending
	rmgr, info := p.header[recordRmgr], p.header[recordInfo]
	if p.got == recordHeaderSize && (w.Events != nil && eventful(rmgr, info) || w.Changes != nil && changing(rmgr, info)) {
		w.data = append(w.data, part...)
	}
}

// report calls Events or Changes for the record if it is one. data is the record's content behind its header.
func (w *Walker) report(header, data []byte, start, end LSN) {
	w.change(header, data, start, end)
	if w.Events == nil || !eventful(header[recordRmgr], header[recordInfo]) {
		return
	}
	e := Event{Start: start, End: end}
	data = mainData(data)
	if len(data) < 8 {
		return // no server writes such a record, and recovery would fail at it
	}
	e.Time = timestamp(int64(le64(data)))
	info := header[recordInfo]
	if header[recordRmgr] == rmgrXLog {
		e.Kind, e.Name = RestorePoint, text(data[8:])
		w.Events(e)
		return
	}
	e.XID = le32(header[recordXID:])
	what := info & infoXact
	if what == xactAbort || what == xactAbortPrepared {
		e.Kind = Abort
	}
	if what == xactCommitPrepared || what == xactAbortPrepared {
		e.XID = 0
		if info&xactHasInfo != 0 {
			e.XID = prepared(data[8:], w.rules.stats)
		}
	}
	w.Events(e)
}

// mainData returns the main data of a record that refers to no blocks, as those of transactions and of XLOG; nil if it
// cannot be read. The origin and the top-level transaction may precede it.
//
// Source: DecodeXLogRecord in src/backend/access/transam/xlogreader.c.
func mainData(b []byte) []byte {
	for len(b) > 0 {
		var head, length int
		switch b[0] {
		case 0xFF: // main data of less than 256 bytes
			if head = 2; len(b) >= head {
				length = int(b[1])
			}
		case 0xFE:
			if head = 5; len(b) >= head {
				length = int(le32(b[1:]))
			}
		case 0xFD: // origin
			b = b[min(3, len(b)):]
			continue
		case 0xFC: // top-level transaction, since 14
			b = b[min(5, len(b)):]
			continue
		}
		if head == 0 || len(b) < head || length != len(b)-head {
			return nil
		}
		return b[head:]
	}
	return nil
}

// prepared returns the prepared transaction that ended, from the bytes b behind the record's time; zero if there is none.
func prepared(b []byte, stats int) uint32 {
	if len(b) < 4 {
		return 0
	}
	bits := le32(b)
	b = b[4:]
	for _, part := range xactParts {
		if bits&part.bit == 0 {
			continue
		}
		skip := uint64(part.fixed)
		if skip == 0 {
			if len(b) < 4 {
				return 0
			}
			item := uint64(part.item)
			if part.bit == xactStats {
				item = uint64(stats)
			}
			skip = 4 + uint64(le32(b))*item
		}
		if uint64(len(b)) < skip {
			return 0
		}
		b = b[skip:]
	}
	if bits&xactTwophase == 0 || len(b) < 4 {
		return 0
	}
	return le32(b)
}

// timestamp converts a TimestampTz: microseconds since 2000-01-01 00:00:00 UTC.
func timestamp(micros int64) time.Time {
	const epoch = 946_684_800 // seconds since 1970
	seconds, rest := micros/1_000_000, micros%1_000_000
	return time.Unix(epoch+seconds, rest*1000).UTC()
}

// text returns the bytes before the first zero byte.
func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
