package sealed

// ForbidCores does nothing: a process leaves no core file here.
func ForbidCores() error { return nil }
