//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A target is a figure that walkeep is to reach.
type target struct {
	text   string
	format string
	least  float64 // at most one of the two is not zero
	most   float64
	values func(b *bench) []float64
}

func rateAgainst(name, peer string) func(b *bench) []float64 {
	return func(b *bench) []float64 { return paired(b.archived[name], b.archived[peer], rateRatio) }
}

func sizeAgainst(name, peer string) func(b *bench) []float64 {
	return func(b *bench) []float64 { return paired(b.archived[name], b.archived[peer], sizeRatio) }
}

// restoreAgainst relates the restore_commands alone, or with replay.
func restoreAgainst(name, peer string, ratio func(a, b sample) float64) func(b *bench) []float64 {
	return func(b *bench) []float64 { return paired(b.restored[name], b.restored[peer], ratio) }
}

// knownMedian is the median of the calls of each round.
func knownMedian(name string) func(b *bench) []float64 {
	return func(b *bench) []float64 {
		var values []float64
		for _, s := range b.archived[name] {
			values = append(values, median(latencies([]sample{s}, func(s sample) []time.Duration { return s.known })))
		}
		return values
	}
}

// peakOfAll is the greatest peak in each round, archiving and restoring, whatever the codec.
func peakOfAll(b *bench) []float64 {
	var values []float64
	for _, runs := range []map[string][]sample{b.archived, b.restored} {
		for name, samples := range runs {
			if !strings.HasPrefix(name, "walkeep-") {
				continue
			}
			for i, mb := range column(samples, peakMB) {
				if i == len(values) {
					values = append(values, 0)
				}
				values[i] = max(values[i], mb)
			}
		}
	}
	return values
}

var targets = []target{
	{"walkeep zstd against pgBackRest async zst: segments/s", "%.2f x", 1.2, 0, rateAgainst("walkeep-zstd", "pgbackrest-zst")},
	{"walkeep zstd against pgBackRest async zst: stored size", "%.4f x", 0, 1, sizeAgainst("walkeep-zstd", "pgbackrest-zst")},
	{"walkeep s2 against pgBackRest async lz4: segments/s", "%.2f x", 2, 0, rateAgainst("walkeep-s2", "pgbackrest-lz4")},
	{"walkeep s2 against pgBackRest async lz4: stored size", "%.4f x", 0, 1.05, sizeAgainst("walkeep-s2", "pgbackrest-lz4")},
	{"walkeep s2 against `dd conv=fsync`: segments/s", "%.2f x", 1, 0, rateAgainst("walkeep-s2", "dd")},
	{"walkeep zstd, restoring, against pgBackRest archive-get zst: segments/s of the command", "%.2f x", 1.5, 0,
		restoreAgainst("walkeep-zstd", "pgbackrest-zst", callsRatio)},
	{"the same with replay", "%.2f x", 0, 0, restoreAgainst("walkeep-zstd", "pgbackrest-zst", rateRatio)},
	{"walkeep zstd, WAL fetched from S3 against a local spool, with replay: segments/s", "%.2f x", 1, 0, restoreAgainst("walkeep-zstd-s3", "walkeep-zstd", rateRatio)},
	{"the same, the command alone", "%.2f x", 0, 0, restoreAgainst("walkeep-zstd-s3", "walkeep-zstd", callsRatio)},
	{"walkeep s2, restoring, against pgBackRest archive-get zst: segments/s of the command", "%.2f x", 1.5, 0,
		restoreAgainst("walkeep-s2", "pgbackrest-zst", callsRatio)},
	{"the same with replay", "%.2f x", 0, 0, restoreAgainst("walkeep-s2", "pgbackrest-zst", rateRatio)},
	{"supervisor ship against pgBackRest async zst to the same S3 server: segments/s", "%.2f x", 1.5, 0, shipAgainst(false)},
	{"the same, archiving before it included (walkeep zstd)", "%.2f x", 0, 0, shipAgainst(true)},
	{"walkeep zstd: call for an archived segment", "%.1f ms", 0, 5, knownMedian("walkeep-zstd")},
	{"walkeep: greatest peak memory of a call of archive-cmd or restore-cmd", "%.0f MB", 0, 128, peakOfAll},
	{"walkeep zstd, base backup, against the quickest rival that compresses: time (0.80 x is the aim)", "%.2f x", 0, 1, backupAgainst("walkeep-zstd")},
	{"walkeep zstd, base backup, against the smallest of the rivals with zst, level 1: stored size", "%.4f x", 0, 1, backupSizeAgainst("walkeep-zstd")},
	{"walkeep s2, base backup, against the quickest rival that compresses: time", "%.2f x", 0, 0, backupAgainst("walkeep-s2")},
	{"walkeep zstd, base backup from files, against the stream: CPU time of tool and server", "%.2f x", 0, 0.85, filesAgainstStream("zstd", cpuOfBoth)},
	{"the same: time", "%.2f x", 0, 1, filesAgainstStream("zstd", tookOf)},
	{"walkeep none, base backup from files, against the stream: MB/s (1.6 x is the aim, on a tmpfs)", "%.2f x", 1.6, 0, filesAgainstStream("none", speedOf)},
	{"walkeep zstd, restoring a backup, against pgBackRest's quicker one: time", "%.2f x", 0, 1, layingOutAgainst("walkeep-zstd")},
	{"walkeep s2, restoring a backup, against pgBackRest's quicker one: time", "%.2f x", 0, 1, layingOutAgainst("walkeep-s2")},
	{"walkeep zstd, restoring a backup from S3, against pgBackRest zst: time", "%.2f x", 0, 1, restoreFromS3("")},
	{"the same, of 10,000 tables", "%.2f x", 0, 0.3, restoreFromS3("-tables")},
	{"walkeep zstd, delta restore of what is unchanged, against pgBackRest's quicker one: time", "%.2f x", 0, 1, deltaAgainst("walkeep-zstd")},
	{"walkeep s2, delta restore of what is unchanged, against pgBackRest's quicker one: time", "%.2f x", 0, 1, deltaAgainst("walkeep-s2")},
	{"walkeep zstd, rejoin where a page in a hundred differs, against its own restore: time", "%.2f x", 0, 0.5, rejoiningAgainst("walkeep-zstd", tookOf)},
	{"the same: bytes written", "%.3f x", 0, 0.2, rejoiningAgainst("walkeep-zstd", wroteOf)},
	{"streaming beside archive-cmd: median lag", "%.0f ms", 0, 100, streamedBy(streamArchived, func(s streamSample) float64 { return s.walkeep.lag })},
	{"streaming beside archive-cmd: greatest lag", "%.0f ms", 0, 1000, streamedBy(streamArchived, func(s streamSample) float64 { return s.walkeep.most })},
	{"streaming as the only archiver: median lag", "%.0f ms", 0, 100, streamedBy(streamOnly, func(s streamSample) float64 { return s.walkeep.lag })},
	{"streaming as the only archiver: greatest lag", "%.0f ms", 0, 1000, streamedBy(streamOnly, func(s streamSample) float64 { return s.walkeep.most })},
	{"streaming: CPU of the supervisor, of a core", "%.1f %%", 0, 15, streamedBy(streamOnly, func(s streamSample) float64 { return s.walkeep.cpu })},
	{"streaming: peak memory of the supervisor", "%.0f MB", 0, 50, streamedBy(streamOnly, func(s streamSample) float64 { return s.walkeep.peak })},
	{"promotion when all is replayed: from the command to the first INSERT", "%.0f ms", 0, 1500, func(b *bench) []float64 { return b.promoted }},
}

// judge says what is wanted, and whether a value reaches it.
func (t target) judge(value float64) (wanted, verdict string) {
	reached := true
	switch {
	case t.least > 0:
		wanted, reached = "at least "+fmt.Sprintf(t.format, t.least), value >= t.least
	case t.most > 0:
		wanted, reached = "at most "+fmt.Sprintf(t.format, t.most), value <= t.most
	default:
		return "", ""
	}
	if reached {
		return wanted, "reached"
	}
	return wanted, "**missed**"
}

// writeTargets compares with the targets what can be compared: ratios are of the two runs in one round.
func writeTargets(w io.Writer, b *bench) {
	var table strings.Builder
	for _, t := range targets {
		values := t.values(b)
		if len(values) == 0 {
			continue
		}
		wanted, verdict := t.judge(median(values))
		fmt.Fprintf(&table, "| %s | %s | %s | %s |\n", t.text, wanted, spread(values, t.format), verdict)
	}
	if table.Len() > 0 {
		fmt.Fprint(w, "\n### Targets\n\n| figure | wanted | measured | |\n|---|--:|--:|---|\n"+table.String())
	}
	writePeers(w, b)
}

// writePeers relates the other contestants to each other, which shows whether the machine behaves as it did before.
func writePeers(w io.Writer, b *bench) {
	var table strings.Builder
	for _, pair := range [][2]string{{"cp", "dd"}, {"pgbackrest-zst", "dd"}, {"pgbackrest-lz4", "dd"}} {
		if values := rateAgainst(pair[0], pair[1])(b); len(values) > 0 {
			fmt.Fprintf(&table, "| %s against %s | %s |\n", pair[0], pair[1], spread(values, "%.2f x"))
		}
	}
	if table.Len() > 0 && !slices.ContainsFunc(b.field, func(c *contestant) bool { return strings.HasPrefix(c.name, "walkeep-") }) {
		fmt.Fprint(w, "\n### The others, segments/s\n\n| pair | measured |\n|---|--:|\n"+table.String())
	}
}
