//go:build linux

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// writeReport prints the figures as Markdown.
func writeReport(w io.Writer, b *bench, machine string) {
	fmt.Fprintf(w, "%s.\n%s. %s, in turn.\n", machine, versions(b), rounds(b.rounds))
	fmt.Fprint(w, "Medians, and (least to greatest) of the rounds.\n")
	if b.backlog != nil {
		gb := float64(b.backlog.plainSize()) / 1e9
		fmt.Fprintf(w, "Backlog: %d segments of 16 MiB (%.2f GB). 1 GB = 1,000,000,000 bytes of plain WAL.\n", len(b.backlog.segments), gb)
		writeArchiving(w, b, gb)
		writeRestoring(w, b, gb)
	}
	if len(b.takers) > 0 {
		writeBackups(w, b)
		writeLayingOut(w, b)
	}
	writeStreams(w, b)
	if b.shipping != nil {
		b.shipping.write(w)
	}
	writeTargets(w, b)
	writeDisturbance(w, b)
}

// disturbed is the share of the machine's cores from which on others than the contestant are worth a warning. Writing
// to the disk alone, by the kernel's threads, takes up to a tenth.
const disturbed = 0.25

func writeDisturbance(w io.Writer, b *bench) {
	runs, bad := 0, 0
	for _, group := range []map[string][]sample{b.archived, b.restored, b.taken, b.laidOut, b.compared} {
		for _, samples := range group {
			for _, s := range samples {
				runs++
				if s.others > disturbed {
					bad++
				}
			}
		}
	}
	if bad > 0 {
		fmt.Fprintf(w, "\n**Disturbed**: in %d of %d runs other processes took more than %.0f %% of the cores.\n", bad, runs, 100*disturbed)
	}
}

func versions(b *bench) string {
	var list []string
	add := func(version string) {
		if version != "" && !slices.Contains(list, version) {
			list = append(list, version)
		}
	}
	if b.backlog != nil {
		add(b.backlog.version)
	}
	for _, c := range b.field {
		add(c.version)
	}
	if b.shipping != nil {
		add(b.shipping.backlog.version)
		add(b.walkeep.version)
	}
	if len(b.streams) > 0 {
		add(b.postgres)
		add(b.walkeep.version)
	}
	for _, t := range b.takers {
		add(t.cluster.version)
		add(t.version)
	}
	return strings.Join(list, ", ")
}

func rounds(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprintf("%d rounds", n)
}

func writeArchiving(w io.Writer, b *bench, gb float64) {
	fmt.Fprint(w, "\n### Archiving a backlog\n\n"+
		"| archive_command | segments/s | CPU s/GB | net of the floor | stored MB | plain : stored | peak MB of a call |\n"+
		"|---|--:|--:|--:|--:|--:|--:|\n")
	for _, c := range b.field {
		samples := b.archived[c.name]
		if len(samples) == 0 {
			fmt.Fprintf(w, "| %s | failed | | | | | |\n", c.label)
			continue
		}
		net := paired(samples, b.archived[floorName], func(a, floor sample) float64 { return (a.cpu - floor.cpu).Seconds() / gb })
		stored, ratio := "-", "-"
		if samples[0].stored > 0 {
			size := median(column(samples, func(s sample) float64 { return float64(s.stored) }))
			stored, ratio = fmt.Sprintf("%.1f", size/1e6), fmt.Sprintf("%.2f", gb*1e9/size)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", c.label,
			spread(column(samples, rateOf), "%.1f"),
			spread(column(samples, func(s sample) float64 { return cpuOf(s) / gb }), "%.2f"),
			fmt.Sprintf("%.2f", median(net)), stored, ratio, peak(samples, b.archived[floorName]))
	}
	writeKnown(w, b)
}

// peak is the greatest peak of all rounds. The floor's is the launcher's own, and no smaller one can be seen.
func peak(samples, floor []sample) string {
	most := slices.Max(column(samples, peakMB))
	least := 0.0
	if len(floor) > 0 {
		least = slices.Max(column(floor, peakMB))
	}
	if most <= least*1.1 {
		return fmt.Sprintf("< %.0f", max(most, least))
	}
	return fmt.Sprintf("%.0f", most)
}

func writeKnown(w io.Writer, b *bench) {
	var table strings.Builder
	for _, c := range b.field {
		known := latencies(b.archived[c.name], func(s sample) []time.Duration { return s.known })
		if len(known) == 0 {
			continue
		}
		empty := latencies(b.archived[c.name], func(s sample) []time.Duration { return s.paired })
		fmt.Fprintf(&table, "| %s | %.1f | %.1f | %.1f | %.1f |\n", c.label,
			median(known), percentile(known, 0.95), median(empty), percentile(empty, 0.95))
	}
	if table.Len() > 0 {
		fmt.Fprint(w, "\n### A call for a segment that is already archived\n\n"+
			"| archive_command | median ms | 95 % ms | `/bin/true`: median ms | 95 % ms |\n|---|--:|--:|--:|--:|\n"+table.String())
	}
}

func writeRestoring(w io.Writer, b *bench, gb float64) {
	var table strings.Builder
	for _, c := range b.field {
		for _, r := range c.restores {
			samples := b.restored[r.name]
			if len(samples) == 0 {
				fmt.Fprintf(&table, "| %s | failed | | | | |\n", r.label)
				continue
			}
			net := "-"
			if floor := b.restored[restoreFloorName]; len(floor) > 0 {
				net = fmt.Sprintf("%.2f", median(paired(samples, floor,
					func(a, floor sample) float64 { return (a.cpu - floor.cpu).Seconds() / gb })))
			}
			fmt.Fprintf(&table, "| %s | %s | %s | %s | %s | %s |\n", r.label,
				spread(column(samples, rateOf), "%.1f"), spread(column(samples, callsOf), "%.1f"),
				spread(column(samples, func(s sample) float64 { return cpuOf(s) / gb }), "%.2f"),
				net, peak(samples, b.archived[floorName]))
		}
	}
	if table.Len() > 0 {
		fmt.Fprint(w, "\n### Restoring it\n\n"+
			"| restore_command | segments/s with replay | of the command alone | CPU s/GB | net of the floor | peak MB of a call |\n"+
			"|---|--:|--:|--:|--:|--:|\n"+table.String())
	}
}
