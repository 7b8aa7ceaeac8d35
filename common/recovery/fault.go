package recovery

import (
	"errors"
	"strings"
	"walkeep/common/notes"
)

// cannotRead returns the first fault that is a [notes.ErrUnread], of the objects with a prefix; nil if there is none.
func (inv *Inventory) cannotRead(prefix string) error {
	for _, f := range inv.Faults {
		if strings.HasPrefix(f.Object, prefix) && errors.Is(f.Err, notes.ErrUnread) {
			return f
		}
	}
	return nil
}
