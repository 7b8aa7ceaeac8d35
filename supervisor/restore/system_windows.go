package restore

import (
	"io/fs"
	"os"
)

// An owner is to whom files are given. Here they are the restoring user's own.
type owner struct{}

func ownerOf(string) (owner, error)           { return owner{}, nil }
func (owner) giveDir(string) error            { return nil }
func (owner) giveLink(*os.Root, string) error { return nil }
func (owner) giveFile(*os.File) error         { return nil }
func (owner) enters(string) (string, bool)    { return "", true }
func hasOneName(fs.FileInfo) bool             { return true }
func checkNotServed(dir, data string) error   { return nil }
func (*restorer) servedBeside() string        { return "" }
