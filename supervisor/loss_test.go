package main

import (
	"testing"
	"time"

	"walkeep/supervisor/promote"
)

// TestDescribeLoss checks that the report of a promotion claims only what is known. It is in package main because only a
// promotion prints the text.
func TestDescribeLoss(t *testing.T) {
	const end = 0x5000000
	at := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for name, test := range map[string]struct {
		loss promote.Loss
		want string
	}{
		"no stream": {
			promote.Loss{}, "what the old primary wrote after 0/5000000, if anything; no note of a stream tells its amount",
		},
		"no stream, and whole records that were not replayed": {
			promote.Loss{Kept: end + 2048, Written: end + 2048, Bytes: 2048},
			"2.0 kB up to 0/5000800, which the archive has (complete records up to 0/5000800), and which the server has not replayed; commits among them may have been confirmed to clients",
		},
		"whole records that were not replayed, of a synchronous stream": {
			promote.Loss{Streamed: true, Synchronous: true, Kept: end + 2048, Written: end + 4096, Bytes: 4096, Heard: at},
			"4.0 kB up to 0/5001000, which the archive has (complete records up to 0/5000800), and which the server has not replayed; commits among them may have been confirmed to clients",
		},
		"a stream that missed the end": {
			promote.Loss{Streamed: true, Written: end + 2048, Bytes: 2048, Heard: at},
			"2.0 kB that the old primary had written up to 0/5000800, and what it wrote after 2026-11-28 12:00:00 UTC, when the stream last heard from it",
		},
		"a synchronous stream that missed the end": {
			promote.Loss{Streamed: true, Synchronous: true, Written: end + 2048, Bytes: 2048, Heard: at},
			"2.0 kB that the old primary had written up to 0/5000800; no commit in it was confirmed to a client that waited for the stream",
		},
		"a stream that had all": {
			promote.Loss{Streamed: true, Written: end, Kept: end, Heard: at},
			"nothing of the complete records that were streamed; what the old primary wrote after 2026-11-28 12:00:00 UTC, when the stream last heard from it, is unknown",
		},
		"a synchronous stream that had all": {
			promote.Loss{Streamed: true, Synchronous: true, Written: end, Kept: end, Heard: at}, "nothing that was confirmed to a client that waited for the stream",
		},
	} {
		if got := describeLoss(&promote.Result{End: end, Loss: test.loss}); got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, test.want)
		}
	}
}
