package codec_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"

	"walkeep/common/codec"
)

// Offsets in a payload.
const (
	atChunkCount = 132
	atChunks     = 136
)

// seal completes a payload that ends before its own length, and wraps it, by the specification in doc.go and with no
// help from the code under test.
func seal(codecName string, payload []byte) []byte {
	p := binary.LittleEndian.AppendUint32(bytes.Clone(payload), uint32(len(payload)+20))
	p = binary.LittleEndian.AppendUint64(p, xxh3.Hash(p))
	p = append(p, "WALKEEP\xff"...)
	n := len(p)
	var head, tail []byte
	switch codecName {
	case "s2":
		head = []byte{0xD7, byte(n), byte(n >> 8), byte(n >> 16)}
	case "gzip":
		head = []byte{0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 0xFF, byte(n + 4), byte((n + 4) >> 8), 0x57, 0x4B, byte(n), byte(n >> 8)}
		tail = []byte{3, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	default:
		head = []byte{0x50, 0x2A, 0x4D, 0x18, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
	}
	return slices.Concat(head, p, tail)
}

// example has another value in every field, and its payload as the specification has it.
func example(codecName string) (codec.Trailer, []byte) {
	t := codec.Trailer{
		Codec: codecName, WALCheck: codec.Damaged, ChunkSize: 0x0A0B0C,
		SystemID: 0x1112131415161718, PlainSize: 0x0A0B0C + 5,
		Start: 0x2122232425262728, End: 0x3132333435363738, DamageLSN: 0x4142434445464748, Mark: 0x7172737475767778,
		Chunks: []uint32{0x0101, 0x0203}, Name: "00000002.history", Tool: "9.8.7",
	}
	for i := range t.PlainHash {
		t.PlainHash[i] = byte(0x50 + i)
	}
	for i := range t.StoredSHA256 {
		t.StoredSHA256[i] = byte(0x60 + i)
	}
	for i := range t.StoredXXH3 {
		t.StoredXXH3[i] = byte(0x80 + i)
	}
	id := map[string]string{"zstd": "01", "s2": "02", "lz4": "03", "gzip": "04", "none": "05"}[codecName]
	payload, err := hex.DecodeString(strings.Join([]string{
		hex.EncodeToString([]byte("WALKEEP\x00")), "0100", id, "03", "0c0b0a00", "1817161514131211", "110b0a0000000000",
		"505152535455565758595a5b5c5d5e5f", "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f",
		"2827262524232221", "3837363534333231", "4847464544434241", "7877767574737271", "808182838485868788898a8b8c8d8e8f", "10", "05", "0000", "02000000",
		"01010000", "03020000", hex.EncodeToString([]byte("00000002.history9.8.7")),
	}, ""))
	if err != nil {
		panic(err)
	}
	return t, payload
}

func TestTrailerLayout(t *testing.T) {
	for _, name := range codec.Names() {
		trailer, payload := example(name)
		want := seal(name, payload)
		got, err := trailer.Encode()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: got\n%x, %v, want\n%x", name, got, err, want)
		}
		object := append(make([]byte, 0x0101+0x0203), want...)
		back, err := codec.ReadTrailer(byName(t, name), bytes.NewReader(object), int64(len(object)))
		if err != nil || !reflect.DeepEqual(back, &trailer) {
			t.Errorf("%s: got %+v, %v, want %+v", name, back, err, trailer)
		}
	}
}

// A payload whose hash is right may still say what no writer would have said.
func TestTrailerRefuses(t *testing.T) {
	stored := int64(0x0101 + 0x0203)
	tests := map[string]func(p []byte) []byte{
		"another magic":           func(p []byte) []byte { p[6] = 'p'; return p },
		"version 0":               func(p []byte) []byte { p[8] = 0; return p },
		"version 2":               func(p []byte) []byte { p[8] = 2; return p },
		"version 257":             func(p []byte) []byte { p[9] = 1; return p },
		"codec 0":                 func(p []byte) []byte { p[10] = 0; return p },
		"codec 6":                 func(p []byte) []byte { p[10] = 6; return p },
		"another codec":           func(p []byte) []byte { p[10] = 3; return p },
		"WAL check 4":             func(p []byte) []byte { p[11] = 4; return p },
		"chunk size 0":            func(p []byte) []byte { clear(p[12:16]); return p },
		"chunk size over 64 MB":   func(p []byte) []byte { p[15] = 4; p[12] = 1; return p },
		"more plain bytes":        func(p []byte) []byte { p[27] = 1; return p },
		"fewer plain bytes":       func(p []byte) []byte { p[26] = 1; return p },
		"2^64-1 plain bytes":      func(p []byte) []byte { binary.LittleEndian.PutUint64(p[24:], math.MaxUint64); return p },
		"the zero is not":         func(p []byte) []byte { p[130] = 1; return p },
		"name longer":             func(p []byte) []byte { p[128]++; return p },
		"version longer":          func(p []byte) []byte { p[129]++; return p },
		"chunks more":             func(p []byte) []byte { p[atChunkCount]++; return p },
		"chunks beyond all":       func(p []byte) []byte { p[atChunkCount+3] = 0xFF; return p },
		"one byte more":           func(p []byte) []byte { return append(p, 0) },
		"one byte less":           func(p []byte) []byte { return p[:len(p)-1] },
		"chunk longer":            func(p []byte) []byte { p[atChunks+1]++; return p },
		"chunk of 4 GB":           func(p []byte) []byte { p[atChunks+3] = 0xFF; return p },
		"chunks too many by fact": func(p []byte) []byte { return append(p[:atChunks], p[atChunks+4:]...) },
	}
	for name, change := range tests {
		_, payload := example("zstd")
		end := seal("zstd", change(payload))
		r := &sparse{zeros: stored, tail: end}
		got, err := codec.ReadTrailer(byName(t, "zstd"), r, r.size())
		if !errors.Is(err, codec.ErrDamaged) || got != nil {
			t.Errorf("%s: got %+v, %v, want ErrDamaged", name, got, err)
		}
	}
}

// The wrap around the plain size: 2^64-1 bytes in chunks of 2 are no chunks at all.
func TestTrailerOverflow(t *testing.T) {
	trailer, payload := example("zstd")
	binary.LittleEndian.PutUint64(payload[24:], math.MaxUint64)
	binary.LittleEndian.PutUint32(payload[12:], 2)
	clear(payload[atChunkCount:atChunks])
	end := seal("zstd", slices.Concat(payload[:atChunks], payload[atChunks+8:]))
	if got, err := codec.ReadTrailer(byName(t, "zstd"), bytes.NewReader(end), int64(len(end))); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("read: got %+v, %v, want ErrDamaged", got, err)
	}
	trailer.PlainSize, trailer.ChunkSize, trailer.Chunks = math.MaxUint64, 2, nil
	if _, err := trailer.Encode(); err == nil {
		t.Error("it is encoded")
	}
}

func TestEncodeRefuses(t *testing.T) {
	tests := map[string]func(*codec.Trailer){
		"unknown codec":       func(t *codec.Trailer) { t.Codec = "zip" },
		"no codec":            func(t *codec.Trailer) { t.Codec = "" },
		"long name":           func(t *codec.Trailer) { t.Name = strings.Repeat("x", 256) },
		"long version":        func(t *codec.Trailer) { t.Tool = strings.Repeat("x", 256) },
		"chunk size 0":        func(t *codec.Trailer) { t.ChunkSize = 0 },
		"chunk missing":       func(t *codec.Trailer) { t.Chunks = t.Chunks[:1] },
		"chunk too many":      func(t *codec.Trailer) { t.Chunks = append(t.Chunks, 1) },
		"unknown check":       func(t *codec.Trailer) { t.WALCheck = codec.Damaged + 1 },
		"8193 chunks":         func(t *codec.Trailer) { t.ChunkSize, t.PlainSize, t.Chunks = 1, 8193, make([]uint32, 8193) },
		"a chunk that grew":   func(t *codec.Trailer) { t.Chunks[1] = 3 * t.ChunkSize },
		"chunk size of 65 MB": func(t *codec.Trailer) { t.ChunkSize, t.PlainSize = 65<<20, 66<<20 },
	}
	for name, change := range tests {
		trailer, _ := example("gzip")
		change(&trailer)
		if b, err := trailer.Encode(); err == nil {
			t.Errorf("%s: encoded in %d bytes", name, len(b))
		}
	}
}

// The longest trailer that there can be is found, under every codec.
func TestLongestTrailer(t *testing.T) {
	for _, name := range codec.Names() {
		trailer, _ := example(name)
		trailer.Name, trailer.Tool = strings.Repeat("n", 255), strings.Repeat("t", 255)
		trailer.Chunks = make([]uint32, 8192)
		trailer.PlainSize = 8192 * uint64(trailer.ChunkSize)
		for i := range trailer.Chunks {
			trailer.Chunks[i] = 7
		}
		end, err := trailer.Encode()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		r := &sparse{zeros: 7 * 8192, tail: end}
		got, err := codec.ReadTrailer(byName(t, name), r, r.size())
		if err != nil || !reflect.DeepEqual(got, &trailer) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

// sparse is an object that begins with zeros.
type sparse struct {
	zeros int64
	tail  []byte
}

func (s *sparse) size() int64 { return s.zeros + int64(len(s.tail)) }

func (s *sparse) ReadAt(p []byte, at int64) (int, error) {
	n := 0
	if at < s.zeros {
		n = int(min(int64(len(p)), s.zeros-at))
		clear(p[:n])
	}
	if n < len(p) {
		n += copy(p[n:], s.tail[min(at+int64(n)-s.zeros, int64(len(s.tail))):])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func TestWALCheckString(t *testing.T) {
	for check, want := range map[codec.WALCheck]string{
		codec.NotWAL: "not WAL", codec.NotChecked: "not checked", codec.Intact: "intact", codec.Damaged: "damaged", 9: "unknown (9)",
	} {
		if got := check.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

var update = flag.Bool("update", false, "make the golden objects that are missing")

const goldenDir = "../../testdata/archive/v1"

// golden are the files of which testdata/archive/v1 has a stored object for every codec, made once by the first
// version. They must be read for ever.
var golden = []struct {
	name    string
	plain   []byte
	trailer codec.Trailer // without sizes and hashes
	but     string        // a codec of which there is none: it would be as large as the file
}{
	{
		name:    "00000002.history",
		plain:   []byte("1\t0/1013170\tno recovery target specified\n"),
		trailer: codec.Trailer{WALCheck: codec.NotWAL, SystemID: 7575757575757575757},
	},
	{
		name:  "000000010000000000000003",
		plain: goldenSegment(),
		trailer: codec.Trailer{WALCheck: codec.Damaged, SystemID: 18446744073709551615,
			Start: 0x600000, End: 0x700000, DamageLSN: 0x700008},
		but: "none",
	},
}

// goldenChunk is the chunk size of the version that made them. It does not follow [codec.ChunkSize].
const goldenChunk = 2 << 20

// goldenSegment fills three chunks, the last one by half. It is no WAL.
func goldenSegment() []byte {
	b := make([]byte, 5*goldenChunk/2)
	for i := 0; i < len(b); i += 4096 {
		binary.LittleEndian.PutUint64(b[i:], uint64(i)*0x9E3779B97F4A7C15)
	}
	return b
}

func TestGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(goldenDir, "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, name := range codec.Names() {
		for _, g := range golden {
			if g.but == name {
				continue
			}
			file := filepath.Join(goldenDir, name, g.name+byName(t, name).Ext())
			if *update {
				makeGolden(t, file, name, g.plain, g.trailer, g.name)
			}
			object, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := g.trailer
			want.Codec, want.Name, want.Tool = name, g.name, "0.1.0"
			checkGolden(t, file, object, want, g.plain)
			checked++
		}
	}
	if checked != 9 || !*update && len(files) != checked {
		t.Errorf("checked %d files of %d, want all 9", checked, len(files))
	}
}

func checkGolden(t *testing.T, file string, object []byte, want codec.Trailer, plain []byte) {
	o := open(t, want.Codec, object)
	got := *o.Trailer
	end, err := got.Encode()
	if err != nil || !bytes.HasSuffix(object, end) {
		t.Fatalf("%s: the trailer is encoded as other bytes than it was (%v)", file, err)
	}
	want.ChunkSize, want.PlainSize = goldenChunk, uint64(len(plain))
	want.PlainHash = xxh3.Hash128(plain).Bytes()
	stored := object[:len(object)-len(end)]
	want.StoredSHA256, want.StoredXXH3 = sha256.Sum256(stored), xxh3.Hash128(stored).Bytes()
	if len(got.Chunks) != (len(plain)+goldenChunk-1)/goldenChunk {
		t.Errorf("%s: got %d chunks", file, len(got.Chunks))
	}
	want.Chunks = got.Chunks
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %+v, want %+v", file, got, want)
	}
	if err := o.Verify(t.Context()); err != nil {
		t.Errorf("%s: %v", file, err)
	}
	w := window{b: make([]byte, len(plain))}
	if err := o.Unpack(t.Context(), &w); err != nil || !bytes.Equal(w.b, plain) {
		t.Errorf("%s: it unpacks to other bytes (%v)", file, err)
	}
}

// makeGolden leaves alone what is there: a version's objects are never made again.
func makeGolden(t *testing.T, file, codecName string, plain []byte, trailer codec.Trailer, name string) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		return
	}
	object, packed := pack(t, codecName, 0, plain)
	end, err := packed.Encode()
	if err != nil {
		t.Fatal(err)
	}
	packed.WALCheck, packed.SystemID, packed.Name, packed.Tool = trailer.WALCheck, trailer.SystemID, name, "0.1.0"
	packed.Start, packed.End, packed.DamageLSN = trailer.Start, trailer.End, trailer.DamageLSN
	object = object[:len(object)-len(end)]
	if end, err = packed.Encode(); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(object, end...), 0o644); err != nil {
		t.Fatal(err)
	}
}
