package cli_test

import (
	"errors"
	"fmt"
	"testing"

	"walkeep/common/cli"
)

// The hint that is printed is that of the outermost error that has one.
func TestHint(t *testing.T) {
	inner := cli.NewError("inner", "see {list}, then {cleanup --drop-timeline 2}")
	plain := errors.New("plain")
	for _, test := range []struct {
		name string
		err  error
		want string
	}{
		{"none", nil, ""},
		{"plain", plain, ""},
		{"of a variable", inner, "see supervisor list, then supervisor cleanup --drop-timeline 2"},
		{"wrapped", fmt.Errorf("restore: %w: %w", plain, inner), "see supervisor list, then supervisor cleanup --drop-timeline 2"},
		{"the outer one", cli.Hinted(fmt.Errorf("restore: %w", inner), "outer"), "outer"},
		{"an empty outer one", cli.Fail(1, fmt.Errorf("restore: %w", inner), ""), "see supervisor list, then supervisor cleanup --drop-timeline 2"},
		{"a failure's", cli.Fail(1, inner, "failure"), "failure"},
		{"the first of two", errors.Join(cli.Hinted(plain, "first"), inner), "first"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := cli.Hint(test.err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if !errors.Is(fmt.Errorf("restore: %w", inner), inner) || !errors.Is(cli.Hinted(plain, "hint"), plain) {
		t.Error("errors.Is does not find what was given a hint")
	}
}
