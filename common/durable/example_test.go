package durable_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"walkeep/common/durable"
)

// A file has its name when it is whole and on the disk, and not before; a second file of that name is refused.
func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "000000010000000000000001")
	for _, content := range []string{"first", "second"} {
		f, err := durable.Create(path)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer f.Discard()
		if _, err := f.Write([]byte(content)); err != nil {
			fmt.Println(err)
			return
		}
		_, err = os.Stat(path)
		fmt.Println(content, "is written; a file of that name is there:", err == nil)
		err = f.Commit(nil)
		fmt.Println(content, "is refused:", errors.Is(err, fs.ErrExist))
	}
	content, err := os.ReadFile(path)
	fmt.Println(string(content), err)
	// Output:
	// first is written; a file of that name is there: false
	// first is refused: false
	// second is written; a file of that name is there: true
	// second is refused: true
	// first <nil>
}
