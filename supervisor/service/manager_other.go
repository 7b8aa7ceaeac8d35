//go:build !windows

package service

import (
	"context"
	"io"
	"os"
)

// HasManager reports whether the system has a service manager that services must answer to. If so, [UnderManager]
// runs them.
const HasManager = false

// DefaultUser is the account of a service.
const DefaultUser = "postgres"

func (Installation) complete() error { return nil }

// UnderManager always fails: on this system a service is an ordinary program.
func UnderManager(string, func(ctx context.Context, log io.Writer, reload chan os.Signal) error) error {
	return ErrNoManager
}
