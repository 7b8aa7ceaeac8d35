package filebackup

import (
	"encoding/binary"

	"walkeep/common/wal"
)

// Offsets in a page's header (PageHeaderData in PostgreSQL's bufpage.h), in bytes.
const (
	offLSN      = 0
	offChecksum = 8
	offUpper    = 14
	pageHeader  = 24
)

// fnvPrime and bases are the constants of PostgreSQL's checksum_impl.h.
const fnvPrime = 16777619

var bases = [32]uint32{
	0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
	0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
	0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
	0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
}

func word(b []byte) uint32 { return binary.NativeEndian.Uint32(b) }

func mix(sum, value uint32) uint32 {
	sum ^= value
	return sum*fnvPrime ^ sum>>17
}

// checksum returns the checksum of a page with this number in its relation fork. The page is changed meanwhile, and is as it
// was when checksum returns. Its length is a multiple of 128 bytes.
func checksum(page []byte, number uint32) uint16 {
	stored := [2]byte(page[offChecksum:])
	page[offChecksum], page[offChecksum+1] = 0, 0
	var all uint32
	// The page is 32 columns of words. Eight of them fit into a processor's registers.
	for first := 0; first < len(bases); first += 8 {
		b := bases[first : first+8 : first+8]
		s0, s1, s2, s3, s4, s5, s6, s7 := b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]
		for at := 4 * first; at+32 <= len(page); at += 4 * len(bases) {
			r := page[at : at+32 : at+32]
			s0, s1, s2, s3 = mix(s0, word(r[0:4])), mix(s1, word(r[4:8])), mix(s2, word(r[8:12])), mix(s3, word(r[12:16]))
			s4, s5, s6, s7 = mix(s4, word(r[16:20])), mix(s5, word(r[20:24])), mix(s6, word(r[24:28])), mix(s7, word(r[28:32]))
		}
		for _, s := range [8]uint32{s0, s1, s2, s3, s4, s5, s6, s7} {
			all ^= mix(mix(s, 0), 0)
		}
	}
	page[offChecksum], page[offChecksum+1] = stored[0], stored[1]
	return uint16((all^number)%65535 + 1)
}

// pageIsRight reports whether a page need not be suspected: it is new, was changed after the backup began, or has the right checksum.
// It also returns the computed checksum and the one in the page, if they were compared.
func pageIsRight(page []byte, number uint32, start wal.LSN) (right bool, computed, stored uint16) {
	upper := binary.NativeEndian.Uint16(page[offUpper:])
	lsn := wal.LSN(binary.NativeEndian.Uint32(page[offLSN:]))<<32 | wal.LSN(binary.NativeEndian.Uint32(page[offLSN+4:]))
	if upper == 0 || lsn >= start {
		return true, 0, 0
	}
	computed, stored = checksum(page, number), binary.NativeEndian.Uint16(page[offChecksum:])
	return computed == stored, computed, stored
}
