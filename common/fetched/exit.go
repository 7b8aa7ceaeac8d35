package fetched

import (
	"errors"

	"walkeep/common/recovery"
)

// exits are the exit codes of supervisor fetch, by which restore-cmd knows what a failure means. With any other one the answer
// cannot be determined.
var exits = []struct {
	code int
	err  error
}{{3, recovery.ErrAbsent}, {4, recovery.ErrGap}, {5, recovery.ErrLeft}}

// ExitCode returns the exit code of supervisor fetch that stands for an error; false if none does.
func ExitCode(err error) (code int, ok bool) {
	for _, e := range exits {
		if errors.Is(err, e.err) {
			return e.code, true
		}
	}
	return 0, false
}

// ExitError returns the error that an exit code of supervisor fetch stands for; nil if it stands for none.
func ExitError(code int) error {
	for _, e := range exits {
		if e.code == code {
			return e.err
		}
	}
	return nil
}
