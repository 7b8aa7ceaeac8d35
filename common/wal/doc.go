// Package wal parses and checks PostgreSQL's write-ahead log: log sequence numbers, timelines, the names of
// the files that a server archives, timeline history files, and the pages and records in a segment.
// It covers PostgreSQL 10 to 19 on little-endian machines, and every segment and block size.
//
// The package does no I/O and has no global state. Functions may be called concurrently; a [Walker] may not.
//
// # Names
//
// Digits are upper-case hexadecimal. LSN = log * 2^32 + seg * segment size; seg is below 2^32 / segment size.
//
//	24 digits                   segment: timeline, log, seg (8 digits each)
//	24 digits .partial          last segment of a timeline that was left at a promotion
//	24 digits . 8 digits .backup  backup history file: where a base backup started, offset in bytes
//	8 digits .history           timeline history file: timeline
//
// # Timeline history files
//
// Text. Blank lines and lines that begin with # are passed over. Every other line is one timeline that leads
// to the one in the file's name, oldest first:
//
//	timeline (decimal)  white space  LSN at which it was left (%X/%X)  white space  reason
//
// # Segments
//
// A segment is a sequence of pages of one block size, 8192 bytes unless the server was built otherwise. All
// numbers are little-endian. The header of a page:
//
//	offset  size  field
//	     0     2  magic, one value for each major version: 10 D097, 11 D098, 12 D101, 13 D106, 14 D10D,
//	              15 D110, 16 D113, 17 D116, 18 D118, 19 D122
//	     2     2  info bits: 1 the page begins with the rest of a record, 2 long header; up to 18 4 full-page images
//	              may be removed, 8 the rest of a record that belongs here was lost in a crash; since 19 that is 4
//	     4     4  timeline
//	     8     8  LSN of the page's first byte
//	    16     4  with info bit 1: bytes that remain of the record; else 0
//	    20     4  unused
//
// The first page of a segment, and no other, has a long header. These fields follow in it:
//
//	24     8  system identifier
//	32     4  segment size in bytes
//	36     4  block size in bytes
//
// Records begin at multiples of 8. A record that does not fit on a page, or in a segment, continues behind the header of
// the next page:
//
//	 0     4  length in bytes, with this header
//	 4     4  transaction
//	 8     8  LSN of the record before
//	16     1  info
//	17     1  resource manager
//	18     2  unused
//	20     4  CRC-32C over the data and then over the first 20 bytes of the header
//	24        data
//
// # What the Walker checks
//
// The header of the first page must match the file's name; a fault is [Result].HeaderErr. The Walker requires a known
// magic, the long form, no unknown bits, the address that the name implies, a timeline not later than the name's, sizes
// that PostgreSQL can use, and as many bytes as a segment has.
//
// Every other fault is damage ([Result].Damage), a position at which recovery would stop. A page must have the first
// page's magic, valid bits, its own address, a timeline not earlier than that of the page before and not later than the
// name's, and exactly the continuation that the record before it needs. A record must have at least 24 bytes and at most
// 1020 MB (from 16 on) or 1 GB, the link to the record before, a resource manager of the version (0 to 21, and from 15 on
// 128 to 255), and the right checksum.
//
// A switch record ends the segment; the bytes behind it are not checked. A page with the bit for a lost continuation (8,
// since 19 4) discards the record that it should continue; its first record must be an OVERWRITE_CONTRECORD, whose link
// leads to the last record before the discarded one. In a complete segment records must reach the end. Those of a partial
// segment may stop anywhere, so it has no damage, and [Result].End is the end of its records.
//
// # Versions to come
//
// An unknown magic that is above that of the release before the newest known one, and at most D2FF, belongs to a version
// to come, or to a beta ([Header.Newer]). Headers are checked as usual, except for unknown info bits. Records are walked by
// the rules of the newest known version. Unknown info bits, unknown resource managers, and a faulty record that is the
// segment's first or lies behind something unknown are [Result].Unchecked and no damage; behind a record that cannot be
// walked, only the headers of pages are checked ([Result].Blind). A faulty record that follows only known, correct ones is
// damage.
//
// # What it cannot know
//
// The file's content does not verify these: the system identifier; info bit 4 up to 18; the unused bytes in headers of
// pages and behind records; a page's timeline between those of the page before and the page after; the bytes behind a
// switch record, and so the magic if the record is on the first page. After [Walker.Reset] the rest of a record that began
// in the segment before, and its length up to the same multiple of 8, are not verified, either; after [Walker.Continue]
// they are.
//
// A record that continues in the next segment is checked there, if Continue begins that segment. Otherwise only its link,
// its resource manager and, if it began before the last page, its length are checked; and a wrong length of a record on
// the last page is not noticed if with it the record would continue in the next segment.
package wal
