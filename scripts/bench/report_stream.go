//go:build linux

package main

import (
	"fmt"
	"io"
)

// streamedBy is a figure of a contestant's runs.
func streamedBy(name string, figure func(streamSample) float64) func(b *bench) []float64 {
	return func(b *bench) (values []float64) {
		for _, s := range b.streamed[name] {
			values = append(values, figure(s))
		}
		return values
	}
}

// writeStreams reports how far behind the server what is streamed is.
func writeStreams(w io.Writer, b *bench) {
	if len(b.streams) == 0 {
		return
	}
	fmt.Fprintf(w, "\n### Streaming the WAL that is being written\n\n%s at %d MB/s.\n\n"+
		"| contestant | MB/s written | lag: median ms | greatest ms | CPU, %% of a core | of its archive-cmd | peak MB |\n"+
		"|---|--:|--:|--:|--:|--:|--:|\n", streamTime, streamRate/1_000_000)
	for _, name := range b.streams {
		label, peer := "walkeep, the only archiver", "`pg_receivewal --synchronous`, beside it"
		switch name {
		case streamArchived:
			label = "walkeep, beside archive-cmd"
		case streamSynchronous:
			label = "walkeep, the only archiver, --synchronous"
		}
		if len(b.streamed[name]) == 0 {
			fmt.Fprintf(w, "| %s | failed | | | | | |\n", label)
			continue
		}
		row := func(label string, of func(streamSample) streamFigure) {
			show := func(format string, figure func(streamFigure) float64) string {
				return spread(streamedBy(name, func(s streamSample) float64 { return figure(of(s)) })(b), format)
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s |\n", label,
				spread(streamedBy(name, func(s streamSample) float64 { return s.rate })(b), "%.1f"),
				show("%.0f", func(f streamFigure) float64 { return f.lag }), show("%.0f", func(f streamFigure) float64 { return f.most }),
				show("%.1f", func(f streamFigure) float64 { return f.cpu }), show("%.1f", func(f streamFigure) float64 { return f.children }),
				show("%.0f", func(f streamFigure) float64 { return f.peak }))
		}
		row(label, func(s streamSample) streamFigure { return s.walkeep })
		row(peer, func(s streamSample) streamFigure { return s.peer })
	}
	if len(b.promoted) > 0 {
		fmt.Fprintf(w, "\nA standby that had replayed all took its first row %s ms after `supervisor promote` was called.\n", spread(b.promoted, "%.0f"))
	}
}
