package wal_test

import (
	"fmt"

	"walkeep/common/wal"
)

// The name of an archived file has its kind, its timeline and, for a segment, its position in the WAL.
func ExampleParseName() {
	for _, s := range []string{"000000010000000A000000FF", "00000002.history", "pg_control"} {
		n, err := wal.ParseName(s)
		if err != nil {
			fmt.Println(err)
			continue
		}
		if n.Kind != wal.KindSegment {
			fmt.Printf("%s belongs to timeline %d\n", n, n.Timeline)
			continue
		}
		start, err := n.Start(wal.DefaultSegmentSize)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(n, "begins at", start)
	}
	// Output:
	// 000000010000000A000000FF begins at A/FF000000
	// 00000002.history belongs to timeline 2
	// invalid WAL file name "pg_control"
}

// A history has the position at which each timeline was left.
func ExampleParseHistory() {
	h, err := wal.ParseHistory(3, []byte("1\t0/1013170\tno recovery target specified\n\n2\t0/102B4D0\tbefore 2026-11-22 22:00:00+00\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range h.Entries {
		fmt.Printf("timeline %d was left at %s: %s\n", e.Timeline, e.End, e.Reason)
	}
	fmt.Printf("timeline %d begins at %s\n", h.Timeline, h.Begin())
	// Output:
	// timeline 1 was left at 0/1013170: no recovery target specified
	// timeline 2 was left at 0/102B4D0: before 2026-11-22 22:00:00+00
	// timeline 3 begins at 0/102B4D0
}
