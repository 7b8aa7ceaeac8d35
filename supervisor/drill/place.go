package drill

import "os"

// Place returns the default parent of a scratch directory: the directory for temporary files, if the environment
// names one (TMPDIR) or it is the user's own, else the home directory, where a server's user usually has its data. If
// the user has no home directory, it returns the shared directory for temporary files, and private is false.
func Place(home string) (dir string, private bool) {
	if temp := os.TempDir(); os.Getenv("TMPDIR") != "" || isPrivate(temp) {
		return temp, true
	}
	if home != "" && isPrivate(home) {
		return home, true
	}
	return os.TempDir(), false
}
