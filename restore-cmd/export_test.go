package main

import "io"

// Call runs restore-cmd within the test's process, whose working directory must be the data directory.
func Call(args []string, stderr io.Writer) int { return program(false).Call(args, stderr) }
