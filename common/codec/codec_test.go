package codec_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"walkeep/common/codec"
)

// byName finds a codec that must be there.
func byName(t testing.TB, name string) codec.Codec {
	t.Helper()
	c, err := codec.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pack makes a whole stored object, and gives its trailer as it was encoded.
func pack(t testing.TB, name string, level int, plain []byte) ([]byte, *codec.Trailer) {
	t.Helper()
	c := byName(t, name)
	if level == 0 {
		_, _, level = c.Levels()
	}
	p, err := codec.NewPacker(c, level)
	if err != nil {
		t.Fatal(err)
	}
	return packWith(t, p, plain)
}

func packWith(t testing.TB, p *codec.Packer, plain []byte) ([]byte, *codec.Trailer) {
	t.Helper()
	var object, tapped bytes.Buffer
	trailer, err := p.Pack(&object, bytes.NewReader(plain), &tapped)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tapped.Bytes(), plain) {
		t.Fatal("the tap saw other bytes than those that were packed")
	}
	trailer.Name, trailer.Tool = "000000010000000A000000FE", "0.1.0"
	trailer.SystemID, trailer.WALCheck = 7446744073709551615, codec.Damaged
	trailer.Start, trailer.End, trailer.DamageLSN = 0xAFE000000, 0xAFE001000, 0xAFE000F00
	end, err := trailer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return append(object.Bytes(), end...), trailer
}

// open opens an object that has to have a trailer.
func open(t testing.TB, name string, object []byte) *codec.Object {
	t.Helper()
	o, err := codec.OpenObject(byName(t, name), bytes.NewReader(object), int64(len(object)))
	if err != nil {
		t.Fatal(err)
	}
	if o.Trailer == nil {
		t.Fatal("the object is taken for a foreign one")
	}
	return o
}

// A window takes the bytes of one object, and says which were written outside of it.
type window struct {
	b       []byte
	mu      sync.Mutex
	outside error
}

func (w *window) WriteAt(p []byte, at int64) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at < 0 || at+int64(len(p)) > int64(len(w.b)) {
		w.outside = fmt.Errorf("%d bytes written at %d of %d", len(p), at, len(w.b))
		return 0, w.outside
	}
	return copy(w.b[at:], p), nil
}

// samples are plain bytes of sizes and kinds that meet all the borders. They must not be changed.
var samples = sync.OnceValue(func() map[string][]byte {
	random := make([]byte, 2*codec.ChunkSize+12345)
	rand.NewChaCha8([32]byte{1}).Read(random)
	text := bytes.Repeat([]byte("INSERT INTO t VALUES (4711, 'walkeep');\n"), len(random)/40+1)[:len(random)]
	for i := 0; i < len(text); i += 97 {
		text[i] = random[i] // or every codec would shrink it to nothing
	}
	s := map[string][]byte{
		"nothing": {},
		"random":  random,
		"text":    text,
		"zero":    make([]byte, len(random)),
	}
	for _, n := range []int{1, codec.ChunkSize - 1, codec.ChunkSize, codec.ChunkSize + 1} {
		s[fmt.Sprintf("text of %d", n)] = text[:n]
	}
	return s
})

func TestRoundTrip(t *testing.T) {
	plains := samples()
	for _, name := range codec.Names() {
		least, greatest, standard := byName(t, name).Levels()
		levels := []int{least, standard, greatest}
		slices.Sort(levels)
		for _, level := range slices.Compact(levels) {
			for kind, plain := range plains {
				if level != standard && strings.HasPrefix(kind, "text of") {
					continue // the borders are the same at every level
				}
				t.Run(fmt.Sprintf("%s/%d/%s", name, level, kind), func(t *testing.T) {
					object, trailer := pack(t, name, level, plain)
					roundTrip(t, name, object, trailer, plain)
				})
			}
		}
	}
}

func roundTrip(t *testing.T, name string, object []byte, want *codec.Trailer, plain []byte) {
	o := open(t, name, object)
	if len(want.Chunks) == 0 {
		want.Chunks = []uint32{} // none at all, in either form
	}
	if !reflect.DeepEqual(o.Trailer, want) {
		t.Errorf("trailer: got %+v, want %+v", o.Trailer, want)
	}
	size, hash, err := codec.Sum(bytes.NewReader(plain))
	if err != nil || o.Trailer.PlainSize != size || o.Trailer.PlainHash != hash || size != uint64(len(plain)) {
		t.Errorf("size and hash: got %d, %x, want %d, %x (%v)", o.Trailer.PlainSize, o.Trailer.PlainHash, size, hash, err)
	}
	if got, want := len(o.Trailer.Chunks), (len(plain)+codec.ChunkSize-1)/codec.ChunkSize; got != want {
		t.Errorf("chunks: got %d, want %d", got, want)
	}
	if err := o.Verify(t.Context()); err != nil {
		t.Errorf("Verify: %v", err)
	}
	got := window{b: make([]byte, len(plain))}
	if err := o.Unpack(t.Context(), &got); err != nil {
		t.Errorf("Unpack: %v", err)
	}
	if !bytes.Equal(got.b, plain) {
		t.Error("Unpack gives other bytes than were packed")
	}
	if len(plain) == 0 {
		return // there is no stream
	}
	if got := stream(t, o, int64(len(plain))); !bytes.Equal(got, plain) {
		t.Error("the codec's stream, without the trailer's help, expands to other bytes")
	}
}

// stream expands an object as if it were a foreign one.
func stream(t testing.TB, o *codec.Object, limit int64) []byte {
	t.Helper()
	r, err := o.Reader(t.Context(), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// One Packer packs many files, as archive-cmd's look-ahead does: nothing of one may reach the next.
func TestPackerIsReused(t *testing.T) {
	plains := samples()
	order := []string{"text", "text of 1", "random", "zero", "nothing", "text"}
	for _, name := range codec.Names() {
		t.Run(name, func(t *testing.T) {
			_, _, level := byName(t, name).Levels()
			p, err := codec.NewPacker(byName(t, name), level)
			if err != nil {
				t.Fatal(err)
			}
			for _, kind := range order {
				got, _ := packWith(t, p, plains[kind])
				want, _ := pack(t, name, 0, plains[kind])
				if !bytes.Equal(got, want) {
					t.Errorf("%s: a used packer makes another object than a new one", kind)
				}
				if _, err := p.Pack(io.Discard, &failing{after: codec.ChunkSize + 5}, io.Discard); err == nil {
					t.Error("a source that fails is packed")
				}
				if _, err := p.Pack(&failing{after: 5}, bytes.NewReader(plains["text"]), io.Discard); err == nil {
					t.Error("a target that fails is written")
				}
			}
		})
	}
}

// failing is a reader and a writer that fails after so many bytes.
type failing struct{ after int }

func (f *failing) Read(p []byte) (int, error) { return f.pass(len(p)) }

func (f *failing) Write(p []byte) (int, error) { return f.pass(len(p)) }

func (f *failing) pass(n int) (int, error) {
	if n > f.after {
		n, f.after = f.after, 0
		return n, errFault
	}
	f.after -= n
	return n, nil
}

var errFault = fmt.Errorf("injected fault")

func TestByName(t *testing.T) {
	for i, want := range []struct{ name, ext string }{
		{"zstd", ".zst"}, {"s2", ".s2"}, {"lz4", ".lz4"}, {"gzip", ".gz"}, {"none", ".zst"},
	} {
		c := byName(t, want.name)
		if codec.Names()[i] != want.name || c.Name() != want.name || c.Ext() != want.ext {
			t.Errorf("got %s, %s, %s, want %s, %s", codec.Names()[i], c.Name(), c.Ext(), want.name, want.ext)
		}
		if own, ok := codec.ByExt(want.ext); !ok || own.Ext() != want.ext {
			t.Errorf("ByExt(%q): got %v, %t", want.ext, own, ok)
		}
	}
	if codec.Names()[0] != codec.Default {
		t.Errorf("first name: got %s, want the default, %s", codec.Names()[0], codec.Default)
	}
	for _, name := range []string{"", "ZSTD", "zst", "zstd ", "plain", "brotli"} {
		if _, err := codec.ByName(name); err == nil || !strings.Contains(err.Error(), "zstd, s2, lz4, gzip, none") {
			t.Errorf("ByName(%q): got %v, want an error that lists the codecs", name, err)
		}
	}
	for _, ext := range []string{".", "zst", ".ZST", ".zst.age", ".bz2", ".tmp"} {
		if c, ok := codec.ByExt(ext); ok {
			t.Errorf("ByExt(%q): got %s, want none", ext, c.Name())
		}
	}
}

func TestCheckLevel(t *testing.T) {
	for _, test := range []struct {
		codec string
		level int
		want  string // "" if it has the level
	}{
		{"zstd", 1, ""}, {"zstd", 22, ""}, {"zstd", 0, "1 to 22"}, {"zstd", 23, "1 to 22"}, {"zstd", -1, "1 to 22"},
		{"s2", 1, ""}, {"s2", 3, ""}, {"s2", 4, "1 to 3"},
		{"lz4", 1, ""}, {"lz4", 10, ""}, {"lz4", 11, "1 to 10"},
		{"gzip", 1, ""}, {"gzip", 9, ""}, {"gzip", 10, "1 to 9"},
		{"none", 0, "no levels"}, {"none", 1, "no levels"},
	} {
		err := codec.CheckLevel(byName(t, test.codec), test.level)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s at %d: got %v, want %q", test.codec, test.level, err, test.want)
		}
	}
}

// Every level that is offered can be used.
func TestLevels(t *testing.T) {
	plain := samples()[fmt.Sprintf("text of %d", codec.ChunkSize+1)][:10000]
	for _, name := range codec.Names() {
		least, greatest, _ := byName(t, name).Levels()
		for level := least; level <= greatest; level++ {
			object, trailer := pack(t, name, level, plain)
			roundTrip(t, name, object, trailer, plain)
		}
	}
}

func TestSummer(t *testing.T) {
	plain := samples()["random"]
	var out bytes.Buffer
	s := codec.NewSummer(&out)
	for _, n := range []int{0, 1, 1000, codec.ChunkSize, len(plain) - codec.ChunkSize - 1001} {
		s.Write(plain[out.Len() : out.Len()+n])
	}
	gotSize, gotHash := s.Sum()
	wantSize, wantHash, _ := codec.Sum(bytes.NewReader(plain))
	if gotSize != wantSize || gotHash != wantHash || !bytes.Equal(out.Bytes(), plain) {
		t.Errorf("got %d, %x, want %d, %x", gotSize, gotHash, wantSize, wantHash)
	}
	s = codec.NewSummer(&failing{after: 10})
	n, err := s.Write(plain[:20])
	if size, _ := s.Sum(); n != 10 || err == nil || size != 10 {
		t.Errorf("a failing writer: got %d bytes, %v, and a sum of %d, want those that were written", n, err, size)
	}
}
