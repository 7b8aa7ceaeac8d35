package archive_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/codec"
	"walkeep/common/recovery"
	"walkeep/common/storage/mem"
	"walkeep/common/wal"
)

// A file that was pushed is delivered as it was; one that was never archived is absent, which is more than "not found": the
// archive was there, and nothing in it shows that the file must once have existed.
func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "00000002.history")
	if err := os.WriteFile(path, []byte("1\t0/3000000\tno recovery target specified\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	a := archive.New(new(mem.Backend))
	if err := a.Bind(ctx, archive.Identity{SystemID: 7575757575757575757, SegmentSize: wal.DefaultSegmentSize}); err != nil {
		fmt.Println(err)
		return
	}
	c, err := codec.ByName(codec.Default)
	if err != nil {
		fmt.Println(err)
		return
	}
	pusher := a.NewPusher(archive.PushOptions{Codec: c, Verify: archive.VerifyWarn, Tool: "example"})
	for range 2 { // the same content again is well
		pushed, err := pusher.Push(ctx, path)
		fmt.Println(pushed.Object, err)
	}

	for _, name := range []string{"00000002.history", "00000003.history"} {
		n, err := wal.ParseName(name)
		if err != nil {
			fmt.Println(err)
			return
		}

		fetched, err := recovery.Fetch(ctx, a, n, 7575757575757575757, archivetest.Discard{})
		fmt.Printf("%s: %d bytes, absent: %t\n", name, fetched.Size, errors.Is(err, recovery.ErrAbsent))
	}
	// Output:
	// wal/00000002.history.zst <nil>
	// wal/00000002.history.zst <nil>
	// 00000002.history: 41 bytes, absent: false
	// 00000003.history: 0 bytes, absent: true
}
