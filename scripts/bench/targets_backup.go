//go:build linux

package main

import "slices"

// The rivals of the targets. Those that compress: a backup that is not compressed is quick where the disk is, and large.
var (
	backupRivals  = []string{"pgbackrest-zst", "pgbackrest-lz4", "pg_basebackup-server", "pg_basebackup-client"}
	sizeRivals    = []string{"pgbackrest-zst", "pg_basebackup-server", "pg_basebackup-client"}
	restoreRivals = []string{"pgbackrest-zst", "pgbackrest-lz4"}
)

// againstBest relates a figure of one contestant to the least of its rivals in the same round. Rounds in which not all
// of the rivals that take part have a figure are left out.
func againstBest(samples map[string][]sample, name string, rivals []string, figure func(sample) float64) []float64 {
	rounds := len(samples[name])
	var fields [][]float64
	for _, rival := range rivals {
		if len(samples[rival]) > 0 {
			fields = append(fields, column(samples[rival], figure))
			rounds = min(rounds, len(samples[rival]))
		}
	}
	var values []float64
	for round := range rounds {
		var best []float64
		for _, f := range fields {
			best = append(best, f[round])
		}
		if len(best) > 0 {
			values = append(values, figure(samples[name][round])/slices.Min(best))
		}
	}
	return values
}

func backupAgainst(name string) func(b *bench) []float64 {
	return func(b *bench) []float64 { return againstBest(b.taken, name, backupRivals, tookOf) }
}

// filesAgainstStream relates a figure of a backup from files to that of the same in one stream from the server.
func filesAgainstStream(codec string, figure func(sample) float64) func(b *bench) []float64 {
	return func(b *bench) []float64 {
		return paired(b.taken["walkeep-"+codec], b.taken["walkeep-"+codec+"-stream"], func(a, b sample) float64 { return figure(a) / figure(b) })
	}
}

// speedOf is relative, as all backups are of the same cluster.
func speedOf(s sample) float64 { return 1 / s.took.Seconds() }

// cpuOfBoth is the CPU time of the tool and the server.
func cpuOfBoth(s sample) float64 { return (s.cpu + s.server).Seconds() }

func backupSizeAgainst(name string) func(b *bench) []float64 {
	return func(b *bench) []float64 {
		return againstBest(b.taken, name, sizeRivals, func(s sample) float64 { return float64(s.stored) })
	}
}

func layingOutAgainst(name string) func(b *bench) []float64 {
	return func(b *bench) []float64 { return againstBest(b.laidOut, name, restoreRivals, tookOf) }
}

func restoreFromS3(cluster string) func(b *bench) []float64 {
	return func(b *bench) []float64 {
		return againstBest(b.laidOut, "walkeep-zstd-s3"+cluster, []string{"pgbackrest-zst-s3" + cluster}, tookOf)
	}
}

// rejoiningAgainst relates a figure of a rejoin to that of the same contestant's whole restore.
func rejoiningAgainst(name string, figure func(sample) float64) func(b *bench) []float64 {
	return func(b *bench) []float64 {
		return paired(b.rejoined[name], b.laidOut[name], func(a, b sample) float64 { return figure(a) / figure(b) })
	}
}

func wroteOf(s sample) float64 { return float64(s.wrote) }

func deltaAgainst(name string) func(b *bench) []float64 {
	return func(b *bench) []float64 { return againstBest(b.compared, name, restoreRivals, tookOf) }
}
