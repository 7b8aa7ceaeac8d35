package main_test

import (
	"testing"

	"walkeep/common/cmdtest"
)

// TestScripts has what a person or a server sees of wrong calls, and the whole help.
func TestScripts(t *testing.T) { cmdtest.Scripts(t) }
