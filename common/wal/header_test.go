package wal_test

import (
	"encoding/binary"
	"errors"
	"strconv"
	"testing"

	"walkeep/common/wal"
)

// header returns the bytes of a good header of the second segment of 16 MB.
func header() []byte {
	b := make([]byte, wal.HeaderSize)
	binary.LittleEndian.PutUint16(b[0:], 0xD110)
	binary.LittleEndian.PutUint16(b[2:], 2)
	binary.LittleEndian.PutUint32(b[4:], 3)
	binary.LittleEndian.PutUint64(b[8:], 0x1000000)
	binary.LittleEndian.PutUint32(b[16:], 77)
	binary.LittleEndian.PutUint64(b[24:], 7439201847382910465)
	binary.LittleEndian.PutUint32(b[32:], 16<<20)
	binary.LittleEndian.PutUint32(b[36:], 8192)
	return b
}

func TestParseHeader(t *testing.T) {
	want := wal.Header{
		Magic: 0xD110, Info: 2, Timeline: 3, PageAddr: 0x1000000, RemLen: 77,
		SystemID: 7439201847382910465, SegmentSize: 16 << 20, BlockSize: 8192,
	}
	got, err := wal.ParseHeader(append(header(), 1, 2, 3))
	if err != nil || got != want {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	if got.Major() != 15 {
		t.Errorf("major: got %d, want 15", got.Major())
	}
	if got := (wal.Header{}).Major(); got != 0 {
		t.Errorf("major of nothing: got %d, want 0", got)
	}
}

func TestParseHeaderRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(b []byte) []byte
	}{
		{"nothing", func(b []byte) []byte { return nil }},
		{"too short", func(b []byte) []byte { return b[:39] }},
		{"zeros", func(b []byte) []byte { return make([]byte, 40) }},
		{"magic", func(b []byte) []byte { b[0] = 0x11; return b }},
		{"magic of 9.6", func(b []byte) []byte { b[0] = 0x93; b[1] = 0xD0; return b }},
		{"short header", func(b []byte) []byte { b[2] = 0; return b }},
		{"unknown bit", func(b []byte) []byte { b[2] |= 0x10; return b }},
		{"unknown high bit", func(b []byte) []byte { b[3] = 0x80; return b }},
		{"timeline zero", func(b []byte) []byte { b[4] = 0; return b }},
		{"segment size zero", func(b []byte) []byte { b[35] = 0; return b }},
		{"segment size odd", func(b []byte) []byte { b[32] = 1; return b }},
		{"segment size too large", func(b []byte) []byte { b[35] = 0x80; return b }},
		{"block size zero", func(b []byte) []byte { b[37] = 0; return b }},
		{"block size odd", func(b []byte) []byte { b[36] = 1; return b }},
		{"block size too small", func(b []byte) []byte { b[37] = 2; return b }},
		{"block size too large", func(b []byte) []byte { b[37] = 0; b[38] = 2; return b }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := wal.ParseHeader(c.edit(header())); !errors.Is(err, wal.ErrHeader) || got != (wal.Header{}) {
				t.Errorf("got %+v, %v, want ErrHeader", got, err)
			}
		})
	}
}

func TestHeaderCheck(t *testing.T) {
	for _, c := range []struct {
		name string
		want error
	}{
		{"000000030000000000000001", nil},
		{"000000030000000000000001.partial", nil},
		{"000000040000000000000001", nil}, // the first segment of timeline 4
		{"000000020000000000000001", wal.ErrHeader},
		{"000000030000000000000002", wal.ErrHeader},
		{"000000030000000100000001", wal.ErrHeader},
		{"000000030000000000000101", wal.ErrName},
		{"00000003.history", wal.ErrHeader},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, err := wal.ParseHeader(header())
			if err != nil {
				t.Fatal(err)
			}
			err = h.Check(mustName(t, c.name))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err != nil && !errors.Is(err, wal.ErrHeader) {
				t.Errorf("got %v, want ErrHeader", err)
			}
		})
	}
}

// Every server writes the magic of its major version.
func TestMajorOfServers(t *testing.T) {
	for _, major := range majors {
		for _, n := range names(t, major, wal.KindSegment, wal.KindPartial) {
			h, err := wal.ParseHeader(load(t, major, n.String()))
			if err != nil {
				t.Errorf("%s/%s: %v", major, n, err)
				continue
			}
			if got := strconv.Itoa(h.Major()); got != major {
				t.Errorf("%s/%s: got major %s", major, n, got)
			}
			if err := h.Check(n); err != nil {
				t.Errorf("%s/%s: %v", major, n, err)
			}
		}
	}
}

// The next record begins at Continued.
func TestContinued(t *testing.T) {
	checked := 0
	for _, major := range majors {
		for _, n := range names(t, major, wal.KindSegment) {
			content := load(t, major, n.String())
			found := walk(n, content)
			at := found.Header.Continued()
			if (at == 0) != (found.Header.RemLen == 0) {
				t.Errorf("%s/%s: got %d with %d bytes to come", major, n, at, found.Header.RemLen)
			}
			if at == 0 || at+24 > int64(len(content)) || at%8192+24 > 8192 {
				continue
			}
			first := (int64(binary.LittleEndian.Uint32(content[at:])) + 7) &^ 7 // of the next record
			if first == 0 || at%8192+first > 8192 {
				continue
			}
			n.Kind = wal.KindPartial
			if got := walk(n, content[:at]); got.Records != 0 {
				t.Errorf("%s/%s: %d records before %d", major, n, got.Records, at)
			}
			if got := walk(n, content[:at+first]); got.Records != 1 || got.End != got.Start+wal.LSN(at+first) {
				t.Errorf("%s/%s: got %d records up to %s, want 1 up to %d", major, n, got.Records, got.End, at+first)
			}
			checked++
		}
	}
	if checked < 5 {
		t.Errorf("only %d segments begin with the rest of a record", checked)
	}
}
