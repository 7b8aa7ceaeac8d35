package restore

// FreeSpace gives the free bytes of the file system that holds a directory, or will.
func FreeSpace(dir string) (int64, error) {
	_, free, err := freeSpace(dir)
	return free, err
}
