package recovery

import (
	"slices"

	"walkeep/common/wal"
)

// A Dropped is a database that is listed after a recovery and has no files any more: DROP DATABASE removes them before its
// transaction ends, and a target is compared with the end of a transaction alone.
type Dropped struct {
	OID uint32
	At  wal.LSN // of the record that removes the files
	// Before is a position at or before that where DROP DATABASE began, where recovery has to end to have the database whole.
	// Where an earlier DROP DATABASE of it was interrupted, it accepts no connection there.
	Before wal.LSN
	// Marked says that the record was seen with which DROP DATABASE begins on newer servers. Else Before is At, and where the
	// server is a newer one, only an older backup has the database whole.
	Marked bool
	xid    uint32
}

// An Invalid is a database that is listed after a recovery, and to which nobody can connect: DROP DATABASE has begun, and has
// not ended.
type Invalid struct {
	Database string  // its name; empty where the WAL does not say it
	Before   wal.LSN // as in Dropped
}

// drops follows databases that are dropped through the WAL.
type drops struct {
	marks    []mark
	dropping map[uint32]mark // by the transaction that has deleted the row
	making   map[uint32]bool // transactions that have inserted a row, as DROP DATABASE never does
	removed  []Dropped
}

// A mark is the change of a row of pg_database in place, at which DROP DATABASE may have begun.
type mark struct {
	wal.SharedRow
	at wal.LSN
}

func newDrops() *drops {
	return &drops{dropping: make(map[uint32]mark), making: make(map[uint32]bool)}
}

func (d *drops) see(c wal.Change) {
	switch {
	case c.Row != nil && c.Row.What == wal.RowInserted:
		d.making[c.XID] = true
	case c.Row != nil && c.Row.What == wal.RowDeleted:
		if i := slices.IndexFunc(d.marks, func(m mark) bool { return m.Place == c.Row.Place }); i >= 0 {
			d.dropping[c.XID] = d.marks[i]
		}
	case c.Row != nil:
		d.mark(mark{*c.Row, c.Start})
	case c.Dropped != 0:
		d.remove(c)
	case c.Ended != 0:
		d.end(c.Ended, c.Committed)
	}
}

// mark notes where DROP DATABASE began: the first time, if one was interrupted. VACUUM changes rows in place, too, but not that
// of a database that is marked, because nobody is connected to it.
func (d *drops) mark(m mark) {
	known := slices.ContainsFunc(d.marks, func(old mark) bool { return old.Place == m.Place && old.Invalid })
	if known && (m.Invalid || m.Database == "") {
		return
	}
	d.marks = slices.DeleteFunc(d.marks, func(old mark) bool {
		return old.Place == m.Place || m.Database != "" && old.Database == m.Database
	})
	if m.Invalid || m.Database == "" {
		d.marks = append(d.marks, m)
	}
}

// remove notes that a database's files are removed. CREATE DATABASE does so, too, where it fails.
func (d *drops) remove(c wal.Change) {
	if d.making[c.XID] || slices.ContainsFunc(d.removed, func(r Dropped) bool { return r.OID == c.Dropped && r.xid == c.XID }) {
		return
	}
	r := Dropped{OID: c.Dropped, At: c.Start, Before: c.Start, xid: c.XID}
	if m, ok := d.dropping[c.XID]; ok {
		r.Before, r.Marked = m.at, true
	}
	d.removed = append(d.removed, r)
}

// end notes the end of a transaction. One that is rolled back after DROP DATABASE has marked a database leaves it so.
func (d *drops) end(xid uint32, committed bool) {
	m, dropping := d.dropping[xid]
	delete(d.dropping, xid)
	delete(d.making, xid)
	if dropping && !committed {
		m.Invalid = true // also where the WAL does not say it
		d.mark(m)
		return
	}
	if dropping {
		d.marks = slices.DeleteFunc(d.marks, func(old mark) bool { return old.Place == m.Place })
	}
	for _, r := range d.removed {
		if r.xid == xid {
			d.removed = slices.DeleteFunc(d.removed, func(old Dropped) bool { return old.OID == r.OID })
			break
		}
	}
}

// invalid gives the databases that are marked and have their files.
func (d *drops) invalid() (all []Invalid) {
	for _, m := range d.marks {
		gone := slices.ContainsFunc(d.removed, func(r Dropped) bool { return r.Before == m.at })
		begun := m.Invalid
		for _, other := range d.dropping {
			begun = begun || other.at == m.at
		}
		if begun && !gone {
			all = append(all, Invalid{m.Database, m.at})
		}
	}
	return all
}
