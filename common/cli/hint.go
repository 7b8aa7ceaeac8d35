package cli

import (
	"errors"
	"regexp"
	"strings"
	"sync"
)

// hinter is an error that knows what the user can do about it.
type hinter interface {
	error
	Hint() string
}

// Hint returns what the user can do about an error: the hint of the first error in its tree that has one, in the order of
// errors.As. It is empty if none has one. Any error can have one, by a method Hint() string.
func Hint(err error) string {
	for err != nil {
		var h hinter
		if !errors.As(err, &h) {
			return ""
		}
		if hint := h.Hint(); hint != "" {
			return hint
		}
		err = errors.Unwrap(h)
	}
	return ""
}

// NewError returns an error for a package's variable, as errors.New does, with a hint. A command in braces in the hint, such as
// {list} or {cleanup --dry-run}, is printed as a call of this program by the name by which it was called.
func NewError(text, hint string) error {
	return &hinted{errors.New(text), func() string { return Expand(hint) }}
}

// Hinted returns err with a hint, which is printed as it is; nil if err is nil.
func Hinted(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, func() string { return hint }}
}

type hinted struct {
	err  error
	hint func() string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }
func (h *hinted) Hint() string  { return h.hint() }

// command matches a command in braces.
var command = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`\{([a-z-][^{}]*)\}`) })

// Expand replaces each command in braces in a hint, as NewError has them, by a call of this program.
func Expand(hint string) string {
	return command().ReplaceAllStringFunc(hint, func(words string) string {
		return Call(strings.Fields(words[1 : len(words)-1])...)
	})
}
