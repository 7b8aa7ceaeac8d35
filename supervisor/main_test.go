package main_test

import (
	"os"
	"testing"

	"walkeep/common/cmdtest"
)

func TestMain(m *testing.M) { os.Exit(cmdtest.Main(m, "supervisor")) }
