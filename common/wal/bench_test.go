package wal_test

import (
	"fmt"
	"testing"

	"walkeep/common/wal"
)

// The segment of pgbench has small records, and images of pages after a checkpoint. Most other segments of the test data
// have longer records and are faster to walk.
func BenchmarkWalker(b *testing.B) {
	all := names(b, "15", wal.KindSegment)
	n := all[len(all)-1]
	data := load(b, "15", n.String())
	for _, size := range []int{len(data), 64 << 10, 32 << 10, 10000} {
		b.Run(fmt.Sprintf("write=%d", size), func(b *testing.B) {
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			var w wal.Walker
			for b.Loop() {
				w.Reset(n)
				for rest := data; len(rest) > 0; {
					k := min(size, len(rest))
					w.Write(rest[:k])
					rest = rest[k:]
				}
				if r := w.Finish(); r.Damage != nil {
					b.Fatal(r.Damage)
				}
			}
		})
	}
}

func BenchmarkParseName(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wal.ParseName("000000010000000000000002.00000028.backup"); err != nil {
			b.Fatal(err)
		}
	}
}
