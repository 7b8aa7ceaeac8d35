//go:build linux

package main

// A sight is what was seen of the WAL at one moment: up to where the server had written it, and up to where a stream had
// told it that it is durable elsewhere.
type sight struct {
	at      float64 // ms
	written float64 // bytes
	durable float64 // bytes
}

// lags are how old the newest byte is that is durable elsewhere, at each moment: for how long the server has been ahead
// of it. When the server was where the stream is now is interpolated between the moments.
func lags(seen []sight) []float64 {
	var all []float64
	at := 0 // the last moment at which the server was not ahead of where the stream is
	for i, s := range seen {
		for at < i && seen[at+1].written <= s.durable {
			at++
		}
		switch {
		case s.durable >= s.written:
			all = append(all, 0)
		case s.durable < seen[at].written: // behind the first moment
			all = append(all, s.at-seen[at].at)
		default:
			was := seen[at].at
			if next := seen[at+1]; next.written > seen[at].written {
				was += (next.at - was) * (s.durable - seen[at].written) / (next.written - seen[at].written)
			}
			all = append(all, s.at-was)
		}
	}
	return all
}
