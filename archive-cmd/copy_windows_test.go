package main_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"walkeep/common/cmdtest"
)

// BenchmarkAgainstCopy archives a segment of 16 MB, and copies it with the command that the documentation of PostgreSQL gives, in
// turns. It reports the medians of both, and of the ratio in each pair.
func BenchmarkAgainstCopy(b *testing.B) {
	files := cmdtest.WAL(b, "10")
	name := files.Segments()[0]
	for _, codec := range []string{"zstd", "s2", "none"} {
		b.Run(codec, func(b *testing.B) {
			var archived, copied, ratios []float64
			for i := range b.N {
				c := newBench(b, b.TempDir(), files.Only(name))
				archive := func() {
					begun := time.Now()
					c.run(b, name, "--codec", codec).Expect(b, 0)
					archived = append(archived, time.Since(begun).Seconds())
				}
				copyFile := func() {
					begun := time.Now()
					out, err := exec.Command("cmd", "/c", "copy", c.data.Path("pg_wal", name), filepath.Join(c.dir, "copy")).CombinedOutput()
					if err != nil {
						b.Fatal(fmt.Errorf("%w: %s", err, out))
					}
					copied = append(copied, time.Since(begun).Seconds())
				}
				both := []func(){archive, copyFile}
				if i%2 == 1 {
					slices.Reverse(both)
				}
				both[0]()
				both[1]()
				ratios = append(ratios, archived[i]/copied[i])
			}
			for unit, all := range map[string][]float64{"s/archive": archived, "s/copy": copied, "times": ratios} {
				slices.Sort(all)
				b.ReportMetric(all[len(all)/2], unit)
			}
		})
	}
}
