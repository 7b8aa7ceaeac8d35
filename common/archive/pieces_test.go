package archive_test

import (
	"bytes"
	"errors"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/sealed"
	"walkeep/common/sealed/sealedtest"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// pieced is a repository with the first bytes of a real segment, in pieces.
func pieced(t *testing.T) (b *mem.Backend, a *archive.Archive, n wal.Name, content []byte, put func(from, to int)) {
	t.Helper()
	content = archivetest.File(t, archivetest.Segment)
	h, err := wal.ParseHeader(content)
	if err != nil {
		t.Fatal(err)
	}
	b = new(mem.Backend)
	a = archive.New(b)
	if err := a.Bind(t.Context(), archive.Identity{SystemID: h.SystemID, SegmentSize: h.SegmentSize}); err != nil {
		t.Fatal(err)
	}
	if n, err = wal.ParseName(archivetest.Segment); err != nil {
		t.Fatal(err)
	}
	o := archivetest.Options(t, "zstd")
	o.SystemID = h.SystemID
	put = func(from, to int) {
		t.Helper()
		if err := a.PutPiece(t.Context(), o, archive.Piece{Segment: n, Offset: int64(from)}, content[from:to]); err != nil {
			t.Fatal(err)
		}
	}
	return b, a, n, content, put
}

// streamed reads what was streamed of a segment.
func streamed(t *testing.T, a *archive.Archive, n wal.Name) []byte {
	t.Helper()
	o, err := a.OpenStreamed(t.Context(), n)
	if errors.Is(err, storage.ErrNotExist) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	got := make([]byte, o.Size())
	if _, err := o.ReadAt(got, 0); err != nil {
		t.Fatal(err)
	}
	return got
}

// Pieces count from offset 0 up to the first hole, in whatever way two hosts have cut them.
func TestPieces(t *testing.T) {
	_, a, n, content, put := pieced(t)
	check := func(want int) {
		t.Helper()
		if got := streamed(t, a, n); !bytes.Equal(got, content[:want]) {
			t.Errorf("got %d bytes, want %d", len(got), want)
		}
		if got, err := a.Pieces(t.Context(), n); err != nil || got != int64(want) {
			t.Errorf("the names say %d (%v), want %d", got, err, want)
		}
	}
	check(0)
	put(8192, 16384)
	check(0)
	put(0, 100)
	put(0, 5000)
	check(5000)
	put(4000, 8000)
	check(8000)
	put(20000, 30000)
	put(8000, 9000)
	check(16384)
	put(8000, 9000) // another time
	put(16384, 20000)
	check(30000)
	put(30000, 400000)
	found, length, err := a.Streamed(t.Context(), n)
	if err != nil || length != 400000 || found.Records == 0 || int64(found.End-found.Start) > 400000 {
		t.Errorf("got %+v, %d, %v", found, length, err)
	}
}

// A damaged piece ends the chain, unless another one has the same bytes. So does one of another cluster, or under another name.
func TestDamagedPiece(t *testing.T) {
	b, a, n, content, put := pieced(t)
	put(0, 1000)
	put(1000, 2000)
	put(2000, 3000)
	second := archive.PieceDir(n) + "000003E8-000003E8.zst"
	whole, err := storage.ReadAll(t.Context(), b, second, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(whole); i += 7 {
		broken := bytes.Clone(whole)
		broken[i] ^= 0x10
		if err := b.Replace(t.Context(), second, broken); err != nil {
			t.Fatal(err)
		}
		if got := streamed(t, a, n); !bytes.Equal(got, content[:1000]) {
			t.Fatalf("byte %d is wrong: got %d bytes", i, len(got))
		}
	}
	third, err := storage.ReadAll(t.Context(), b, archive.PieceDir(n)+"000007D0-000003E8.zst", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Replace(t.Context(), second, third); err != nil { // whole, but another one
		t.Fatal(err)
	}
	if got := streamed(t, a, n); !bytes.Equal(got, content[:1000]) {
		t.Fatalf("another piece under the name: got %d bytes", len(got))
	}
	put(500, 2500)
	if got := streamed(t, a, n); !bytes.Equal(got, content[:3000]) {
		t.Fatalf("another piece has the bytes: got %d", len(got))
	}
}

// A piece of another content under the name is never taken for one's own.
func TestPieceConflict(t *testing.T) {
	_, a, n, content, put := pieced(t)
	put(0, 1000)
	o := archivetest.Options(t, "zstd")
	err := a.PutPiece(t.Context(), o, archive.Piece{Segment: n}, append(bytes.Clone(content[:999]), 1))
	if !errors.Is(err, archive.ErrConflict) {
		t.Errorf("got %v, want %v", err, archive.ErrConflict)
	}
}

// The longer of a streamed file and pieces is read, as a union of a spool and a repository has both.
func TestStreamedFileAndPieces(t *testing.T) {
	b, a, n, content, put := pieced(t)
	put(0, 1000)
	for _, length := range []int{500, 2000} {
		if err := b.Replace(t.Context(), archive.StreamedObject(n), content[:length]); err != nil {
			t.Fatal(err)
		}
		if got := streamed(t, a, n); len(got) != max(length, 1000) {
			t.Errorf("got %d bytes", len(got))
		}
	}
}

// Encrypted pieces are read with the private key alone, compared without it, and hold no plain bytes.
func TestEncryptedPieces(t *testing.T) {
	b, a, n, content, _ := pieced(t)
	k := sealedtest.New(t)
	h, err := wal.ParseHeader(content)
	if err != nil {
		t.Fatal(err)
	}
	o := archivetest.Options(t, "none")
	o.SystemID, o.Recipients, o.CompareKey = h.SystemID, k.To(t), k.Compare(t)
	put := func(from, to int) error {
		return a.PutPiece(t.Context(), o, archive.Piece{Segment: n, Offset: int64(from)}, content[from:to])
	}
	for range 2 { // the second time they are compared
		for at := 0; at < 50_000; at += 10_000 {
			if err := put(at, at+10_000); err != nil {
				t.Fatal(err)
			}
		}
	}
	entries, err := storage.ListAll(t.Context(), b, archive.PieceDir(n))
	if err != nil || len(entries) != 5 {
		t.Fatalf("got %v, %v", entries, err)
	}
	for _, e := range entries {
		stored, err := storage.ReadAll(t.Context(), b, e.Name, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for at := 0; at+16 <= 50_000; at += 16 {
			if part := content[at : at+16]; !bytes.Equal(part, make([]byte, 16)) && bytes.Contains(stored, part) {
				t.Fatalf("%s holds plain bytes", e.Name)
			}
		}
	}
	if _, err := a.OpenStreamed(t.Context(), n); !errors.Is(err, sealed.ErrNoKey) {
		t.Errorf("without the private key: got %v", err)
	}
	if got := streamed(t, a.WithKeys(k.Private()), n); !bytes.Equal(got, content[:50_000]) {
		t.Errorf("got %d bytes", len(got))
	}
	content[3] ^= 1
	if err := put(0, 10_000); !errors.Is(err, archive.ErrConflict) {
		t.Errorf("another content: got %v", err)
	}
}
