//go:build linux

package main

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// median is the middle of the values, or the mean of the two middle ones.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// percentile is the smallest value that at least the given share of all do not exceed.
func percentile[T cmp.Ordered](values []T, share float64) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

// spread shows the median, and the least and the greatest value if there are several.
func spread(values []float64, format string) string {
	if len(values) == 0 {
		return "-"
	}
	text := fmt.Sprintf(format, median(values))
	if len(values) == 1 {
		return text
	}
	return text + fmt.Sprintf(" ("+format+" to "+format+")", slices.Min(values), slices.Max(values))
}

// column takes one figure from each sample.
func column(samples []sample, figure func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	return values
}

// paired divides the figures of two contestants, or subtracts them, round by round.
func paired(a, b []sample, of func(a, b sample) float64) []float64 {
	var values []float64
	for i := range min(len(a), len(b)) {
		values = append(values, of(a[i], b[i]))
	}
	return values
}

func rateOf(s sample) float64        { return s.rate }
func callsOf(s sample) float64       { return s.calls }
func peakMB(s sample) float64        { return float64(s.peak) / 1e6 }
func cpuOf(s sample) float64         { return s.cpu.Seconds() }
func tookOf(s sample) float64        { return s.took.Seconds() }
func serverOf(s sample) float64      { return s.server.Seconds() }
func rateRatio(a, b sample) float64  { return a.rate / b.rate }
func callsRatio(a, b sample) float64 { return a.calls / b.calls }
func sizeRatio(a, b sample) float64  { return float64(a.stored) / float64(b.stored) }

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// latencies joins the calls of all rounds, in milliseconds.
func latencies(samples []sample, of func(sample) []time.Duration) []float64 {
	var all []float64
	for _, s := range samples {
		for _, d := range of(s) {
			all = append(all, milliseconds(d))
		}
	}
	return all
}
