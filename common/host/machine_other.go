//go:build !linux && !windows

package host

// machine is not known here.
func machine() string { return "" }
