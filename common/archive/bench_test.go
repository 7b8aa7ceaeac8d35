package archive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/recovery"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// An archive of many names is taken stock of by every command that reports or decides.
func BenchmarkInventory(b *testing.B) {
	for _, segments := range []uint64{1_000, 50_000} {
		b.Run(fmt.Sprintf("segments=%d", segments), func(b *testing.B) {
			backend := new(mem.Backend)
			a := archive.New(backend)
			if err := a.Bind(b.Context(), archive.Identity{SystemID: 7, SegmentSize: wal.DefaultSegmentSize}); err != nil {
				b.Fatal(err)
			}
			for i := range segments {
				name := wal.SegmentAt(1, wal.LSN((i+1)*uint64(wal.DefaultSegmentSize)), wal.DefaultSegmentSize).String()
				if err := storage.PutAll(b.Context(), backend, "wal/"+name[:16]+"/"+name+".zst", []byte("x")); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			for b.Loop() {
				inv, err := recovery.ReadInventory(b.Context(), a)
				if err != nil || len(inv.Lines) != 1 || len(inv.Lines[0].Segments) != 1 {
					b.Fatalf("got %+v, %v", inv, err)
				}
			}
		})
	}
}

// A segment that is archived already is compared with what is stored.
func BenchmarkCompare(b *testing.B) {
	const name = "00000003000000000000001E"
	content := archivetest.Load(b, "15", name)
	path := filepath.Join(b.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		b.Fatal(err)
	}
	pusher := archive.New(new(mem.Backend)).NewPusher(archivetest.Options(b, "zstd"))
	if _, err := pusher.Push(b.Context(), path); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if done, err := pusher.Push(b.Context(), path); err != nil || !done.Duplicate {
			b.Fatalf("got %+v, %v", done, err)
		}
	}
}
