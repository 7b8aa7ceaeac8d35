//go:build !windows

package service

import (
	"context"
	"io"
	"os"
)

// HasManager tells whether the system's service manager wants to speak with its services: then they are run by
// [UnderManager].
const HasManager = false

// UnderManager fails where services are ordinary programs.
func UnderManager(string, func(ctx context.Context, log io.Writer, reload chan os.Signal) error) error {
	return ErrNoManager
}
