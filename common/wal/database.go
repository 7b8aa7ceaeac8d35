package wal

// Records of the resource managers Database (4) and Heap (10).
//
// Source: src/include/commands/dbcommands_xlog.h, src/include/access/heapam_xlog.h, src/include/access/xlogrecord.h.
const (
	rmgrDatabase   = 4
	databaseDrop   = 0x20
	databaseDrop14 = 0x10 // up to 14

	rmgrHeap      = 10
	heapOperation = 0x70 // the bits of xl_info that say what is done
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

// A SharedRow is a row of a table that all databases share. In place, the servers change only those of pg_database: VACUUM
// does, and DROP DATABASE begins with it, so that nobody can connect any more.
//
// Source: dropdb in src/backend/commands/dbcommands.c: since 16, and since 11.21, 12.16, 13.12, 14.9 and 15.4.
type SharedRow struct {
	Place RowPlace
	What  RowChange
	// Database is the name in a row that was changed in place; empty where it cannot be read, because the record has it only
	// in a compressed image of the page.
	Database string
	// Invalid says that DROP DATABASE has marked the database as one that nobody can connect to.
	Invalid bool
}

// A RowChange is what is done to a row.
type RowChange int

// What is done to a row.
const (
	RowInserted RowChange = iota
	RowDeleted
	RowInPlace
)

// rowChange says what a record of the resource manager Heap does, and whether that is one of these.
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

// A RowPlace is where a row is. VACUUM FULL moves rows to another file.
type RowPlace struct {
	File, Block uint32
	Item        uint16 // from 1
}

// droppedDatabase reads the OID of a database whose files are removed; 0 if a record does something else.
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

// sharedRow reads a record that inserts a row, deletes it or changes it in place; nil if it is not of a table that all
// databases share.
func sharedRow(b []byte, what RowChange, major int) *SharedRow {
	const global = 1664 // the tablespace
	block, data, main, ok := firstBlock(b, major)
	if !ok || block.tablespace != global || block.fork != 0 {
		return nil
	}
	at := 0 // of the item's number
	if what == RowDeleted {
		at = 4 // behind the transaction
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

// firstBlock reads the first of a record's references to pages, its data, and the record's main data. Newer servers refer to a
// page of the visibility map behind it.
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

// readBlock reads a reference to a page, and gives its size in bytes; 0 where it is cut off. That of a page of the same table as
// the one before names no table.
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

// mainLength reads what precedes a record's main data behind the references to pages, and gives what follows, and the length of
// the main data in bytes; -1 if there is something else.
func mainLength(b []byte) (rest []byte, length int) {
	for len(b) >= 5 {
		switch b[0] {
		case 0xFF: // main data of less than 256 bytes
			return b[2:], int(b[1])
		case 0xFE:
			return b[5:], int(min(le32(b[1:]), 1<<30))
		case 0xFD: // origin
			b = b[3:]
		case 0xFC: // transaction at the top, since 14
			b = b[5:]
		default:
			return nil, -1
		}
	}
	return nil, -1
}

// A pageImage is what a record has of a page: all but the unused bytes in its middle, the hole.
type pageImage struct {
	stored           []byte
	hole, compressed bool
}

// row gives an item's columns; nil where they cannot be read.
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

// databaseRow reads the columns of a row of pg_database; an empty name where they cannot be read.
//
// Source: src/include/catalog/pg_database.h.
func databaseRow(row []byte, major int) (name string, invalid bool) {
	const nameLength = 64
	begin, limit := 4, 80 // of datname and datconnlimit
	switch {
	case major != 0 && major <= 11: // the OID is no column
		begin, limit = 0, 204
	case major != 0 && major <= 14:
		limit = 208
	}
	if len(row) < limit+4 {
		return "", false
	}
	return text(row[begin : begin+nameLength]), int32(le32(row[limit:])) == -2
}
