package drill

import "os"

// Place is where a drill makes its scratch directory if nobody has said where: the directory for temporary files, if the
// environment names one (TMPDIR) or it is the user's own, else the home directory, where a server's user has its data as a rule.
// Only where the user has none, what all users share must do, and private is false.
func Place(home string) (dir string, private bool) {
	if temp := os.TempDir(); os.Getenv("TMPDIR") != "" || isPrivate(temp) {
		return temp, true
	}
	if home != "" && isPrivate(home) {
		return home, true
	}
	return os.TempDir(), false
}
