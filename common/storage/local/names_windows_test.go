package local_test

import (
	"errors"
	"testing"

	"walkeep/common/storage"
)

// Windows would take such a name for a device, or for the name without its end: the object of another name.
func TestNamesOfWindows(t *testing.T) {
	b := open(t, t.TempDir())
	for _, name := range []string{"a/NUL", "CON", "aux", "COM1", "a.", "a ", "wal./a"} {
		if err := storage.Put(t.Context(), b, name, text("x"), nil); !errors.Is(err, storage.ErrName) {
			t.Errorf("Put %q: got %v, want ErrName", name, err)
		}
		if _, err := b.Open(t.Context(), name); !errors.Is(err, storage.ErrName) {
			t.Errorf("Open %q: got %v, want ErrName", name, err)
		}
	}
	wantList(t, b, "")
}
