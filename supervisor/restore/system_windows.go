package restore

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// hasOneName reports whether a file in root is known to have no other name by a hard link.
func hasOneName(root *os.Root, name string, _ fs.FileInfo) bool {
	f, err := root.Open(name)
	if err != nil {
		return false
	}
	defer f.Close()
	var info windows.ByHandleFileInformation
	return windows.GetFileInformationByHandle(windows.Handle(f.Fd()), &info) == nil && info.NumberOfLinks == 1
}

func checkNotServed(dir, data string) error { return nil }
func (*restorer) servedBeside() string      { return "" }
