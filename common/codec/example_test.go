package codec_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"

	"walkeep/common/codec"
)

// A file is packed, its trailer completed and written behind it; a reader of the object compares everything with the trailer.
func Example() {
	c, err := codec.ByName("zstd")
	if err != nil {
		fmt.Println(err)
		return
	}
	packer, err := codec.NewPacker(c, 3)
	if err != nil {
		fmt.Println(err)
		return
	}
	var object bytes.Buffer
	trailer, err := packer.Pack(&object, strings.NewReader("1\t0/3000000\tno recovery target specified\n"), io.Discard)
	if err != nil {
		fmt.Println(err)
		return
	}
	trailer.Name, trailer.Tool = "00000002.history", "example"
	end, err := trailer.Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	object.Write(end)

	stored, err := codec.OpenObject(c, bytes.NewReader(object.Bytes()), int64(object.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	plain := make(sink, stored.Trailer.PlainSize)
	if err := stored.Unpack(context.Background(), plain); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s: %s", stored.Trailer.Name, plain)

	object.Bytes()[20] ^= 1
	fmt.Println(stored.Verify(context.Background()))
	// Output:
	// 00000002.history: 1	0/3000000	no recovery target specified
	// stored object is damaged: its stored bytes do not have the hash that its trailer says
}
