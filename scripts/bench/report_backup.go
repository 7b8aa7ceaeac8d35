//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"
)

func writeBackups(w io.Writer, b *bench) {
	fmt.Fprintf(w, "\n### Taking a base backup\n\nThe cluster's tables and indexes are %.0f MB, those of 10,000 tables have a page each.\n\n"+
		"| contestant | s | CPU s of the tool | of the server | stored MB | plain : stored | peak MB |\n"+
		"|---|--:|--:|--:|--:|--:|--:|\n", float64(b.takers[0].cluster.size)/1e6)
	for _, t := range b.takers {
		samples := b.taken[t.name]
		if len(samples) == 0 {
			fmt.Fprintf(w, "| %s | failed | | | | | |\n", t.label)
			continue
		}
		size := median(column(samples, func(s sample) float64 { return float64(s.stored) }))
		fmt.Fprintf(w, "| %s | %s | %s | %s | %.1f | %.2f | %s |\n", t.label,
			spread(column(samples, tookOf), "%.2f"), spread(column(samples, cpuOf), "%.2f"), spread(column(samples, serverOf), "%.2f"),
			size/1e6, float64(t.cluster.size)/size, peak(samples, nil))
	}
}

// writeLayingOut reports the restores: into an empty directory, into one where nothing differs, and into one of a server
// that has diverged.
func writeLayingOut(w io.Writer, b *bench) {
	var table strings.Builder
	for _, t := range b.takers {
		for _, kind := range []struct {
			label   string
			run     bool
			samples []sample
		}{
			{t.label, t.restore != nil, b.laidOut[t.name]},
			{t.label + ", delta", t.delta != nil, b.compared[t.name]},
			{t.label + ", diverged", t.rejoin != nil, b.rejoined[t.name]},
		} {
			switch {
			case !kind.run:
			case len(kind.samples) == 0:
				fmt.Fprintf(&table, "| %s | failed | | | |\n", kind.label)
			default:
				fmt.Fprintf(&table, "| %s | %s | %s | %.1f | %s |\n", kind.label, spread(column(kind.samples, tookOf), "%.2f"),
					spread(column(kind.samples, cpuOf), "%.2f"), median(column(kind.samples, wroteOf))/1e6, peak(kind.samples, nil))
			}
		}
	}
	if table.Len() > 0 {
		fmt.Fprint(w, "\n### Restoring it into an empty directory, into the same again (delta), and where a server has diverged\n\n"+
			"| contestant | s | CPU s | written MB | peak MB |\n|---|--:|--:|--:|--:|\n"+table.String())
	}
}
