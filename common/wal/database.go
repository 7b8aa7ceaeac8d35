package wal

// Records of the resource managers Database (4) and Heap (10).
//
// Source: src/include/commands/dbcommands_xlog.h, src/include/access/heapam_xlog.h, src/include/access/xlogrecord.h.
const (
	rmgrDatabase   = 4
	databaseDrop   = 0x20
	databaseDrop14 = 0x10 // up to 14

	rmgrHeap      = 10
	heapOperation = 0x70 // the bits of xl_info that name the operation
	heapInsert    = 0x00
	heapDelete    = 0x10
	heapInPlace   = 0x70

	blockFork     = 0x0F // bits of a block reference
	blockHasImage = 0x10
	blockSameRel  = 0x80

	imageHasHole      = 0x01
	imageCompressed   = 0x1C
	imageCompressed14 = 0x02 // up to 14
)

// A SharedRow is a change of a row of a table that all databases share. Servers change only rows of pg_database in place:
// VACUUM does so, and DROP DATABASE does so first, to prevent new connections.
//
// Source: dropdb in src/backend/commands/dbcommands.c: since 16, and since 11.21, 12.16, 13.12, 14.9 and 15.4.
type SharedRow struct {
	Place RowPlace
	What  RowChange
	// Database is the name in a row that was changed in place. It is empty if the record contains the row only in a
	// compressed image of the page.
	Database string
	// Invalid reports whether DROP DATABASE has marked the database as one that accepts no connections.
	Invalid bool
}

// A RowChange is an operation on a row.
type RowChange int

// The operations on a row.
const (
	RowInserted RowChange = iota
	RowDeleted
	RowInPlace
)

// rowChange returns the operation of a record of the resource manager Heap; false if it is none of RowChange's.
func rowChange(info byte) (RowChange, bool) {
	switch info & heapOperation {
	case heapInsert:
		return RowInserted, true
	case heapDelete:
		return RowDeleted, true
	case heapInPlace:
		return RowInPlace, true
	}
	return 0, false
}

// A RowPlace is the position of a row in its table's file. VACUUM FULL moves rows to another file.
type RowPlace struct {
	File, Block uint32
	Item        uint16 // from 1
}

// droppedDatabase returns the OID of the database whose files a record removes; 0 if the record does something else.
func droppedDatabase(main []byte, what byte, major int) uint32 {
	drop := byte(databaseDrop)
	if major != 0 && major <= 14 {
		drop = databaseDrop14
	}
	if what != drop || len(main) < 4 {
		return 0
	}
	return le32(main)
}

// sharedRow reads a record that inserts a row, deletes it or changes it in place. It returns nil if the row's table belongs to
// one database.
func sharedRow(b []byte, what RowChange, major int) *SharedRow {
	const global = 1664 // the tablespace
	block, data, main, ok := firstBlock(b, major)
	if !ok || block.tablespace != global || block.fork != 0 {
		return nil
	}
	at := 0 // offset of the item's number
	if what == RowDeleted {
		at = 4 // the transaction precedes it
	}
	if len(main) < at+2 {
		return nil
	}
	r := SharedRow{Place: RowPlace{File: block.file, Block: block.number, Item: le16(main[at:])}, What: what}
	if what == RowInPlace {
		if len(data) == 0 {
			data = block.image.row(r.Place.Item)
		}
		r.Database, r.Invalid = databaseRow(data, major)
	}
	return &r
}

// A blockRef is a record's reference to a page.
type blockRef struct {
	fork                     byte
	tablespace, file, number uint32
	image                    pageImage
	stored, data             int // bytes of the page's image and of other data
}

// firstBlock returns the first of a record's references to pages, that reference's data, and the record's main data. A newer
// server's record can refer to a page of the visibility map, too, behind the first.
//
// Source: DecodeXLogRecord in src/backend/access/transam/xlogreader.c.
func firstBlock(b []byte, major int) (first blockRef, data, main []byte, ok bool) {
	const last = 32     // XLR_MAX_BLOCK_ID
	blocks, all := 0, 0 // all: bytes of images and data
	for len(b) > 0 && b[0] <= last {
		r, size := readBlock(b, major)
		if size == 0 {
			return first, nil, nil, false
		}
		if blocks++; blocks == 1 {
			first = r
		}
		all += r.stored + r.data
		b = b[size:]
	}
	b, length := mainLength(b)
	if blocks == 0 || length < 0 || len(b) != all+length {
		return first, nil, nil, false
	}
	first.image.stored = b[:first.stored]
	return first, b[first.stored : first.stored+first.data], b[all:], true
}

// readBlock reads a reference to a page and returns its size in bytes, 0 if it is cut off. A reference to a page of the same
// table as the previous one names no table.
func readBlock(b []byte, major int) (r blockRef, size int) {
	if len(b) < 9 {
		return r, 0
	}
	flags := b[1]
	r.fork, r.data, size = flags&blockFork, int(le16(b[2:])), 4
	if flags&blockHasImage != 0 {
		compressed := byte(imageCompressed)
		if major != 0 && major <= 14 {
			compressed = imageCompressed14
		}
		r.stored = int(le16(b[4:]))
		r.image = pageImage{hole: b[8]&imageHasHole != 0, compressed: b[8]&compressed != 0}
		if size += 5; r.image.hole && r.image.compressed {
			size += 2
		}
	}
	if flags&blockSameRel == 0 {
		if len(b) < size+12 {
			return r, 0
		}
		r.tablespace, r.file = le32(b[size:]), le32(b[size+8:])
		size += 12
	}
	if len(b) < size+4 {
		return r, 0
	}
	r.number = le32(b[size:])
	return r, size + 4
}

// mainLength reads the headers between a record's references to pages and its data. It returns the bytes behind them and the
// length of the main data in bytes, -1 if there is an unknown header or no main data.
func mainLength(b []byte) (rest []byte, length int) {
	for len(b) >= 5 {
		switch b[0] {
		case 0xFF: // main data of less than 256 bytes
			return b[2:], int(b[1])
		case 0xFE:
			return b[5:], int(min(le32(b[1:]), 1<<30))
		case 0xFD: // origin
			b = b[3:]
		case 0xFC: // top-level transaction, since 14
			b = b[5:]
		default:
			return nil, -1
		}
	}
	return nil, -1
}

// A pageImage is a record's copy of a page, without the hole: the unused bytes in the page's middle.
type pageImage struct {
	stored           []byte
	hole, compressed bool
}

// row returns an item's columns; nil if they cannot be read.
//
// Source: src/include/storage/bufpage.h, src/include/storage/itemid.h and src/include/access/htup_details.h.
func (p pageImage) row(item uint16) []byte {
	const pageHeader, tupleHeader = 24, 23
	number := pageHeader + 4*int(item) - 4
	if p.compressed || item == 0 || len(p.stored) < number+4 {
		return nil
	}
	hole := 0 // bytes
	if p.hole {
		hole = int(le16(p.stored[18:])&0xFF00) - len(p.stored)
	}
	pointer := le32(p.stored[number:])
	begin, length := int(pointer&0x7FFF)-hole, int(pointer>>17)
	if begin < 0 || length < tupleHeader || begin+length > len(p.stored) {
		return nil
	}
	tuple := p.stored[begin : begin+length]
	return tuple[min(int(tuple[tupleHeader-1]), length):]
}

// databaseRow reads the columns of a row of pg_database; the name is empty if they cannot be read.
//
// Source: src/include/catalog/pg_database.h.
func databaseRow(row []byte, major int) (name string, invalid bool) {
	const nameLength = 64
	begin, limit := 4, 80 // of datname and datconnlimit
	switch {
	case major != 0 && major <= 11: // the OID is not a column
		begin, limit = 0, 204
	case major != 0 && major <= 14:
		limit = 208
	}
	if len(row) < limit+4 {
		return "", false
	}
	return text(row[begin : begin+nameLength]), int32(le32(row[limit:])) == -2
}
