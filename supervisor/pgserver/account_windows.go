package pgserver

import "os/exec"

// RunAsOwner changes nothing: what is made in a directory is its owner's here by inheritance.
func RunAsOwner(*exec.Cmd, string) error { return nil }
