package local

import "io/fs"

// readable reports whether a file's mode lets this process read it for sure, which it does not say on Windows. Nobody
// opens a million files to know.
func readable(fs.FileInfo) bool { return true }
