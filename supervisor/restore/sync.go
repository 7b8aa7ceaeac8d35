package restore

import (
	"path/filepath"

	"walkeep/common/durable"
)

// sync makes all that was written durable. Only then does the control file follow.
func (r *restorer) sync() error {
	for _, p := range r.places {
		if err := p.sync.all(); err != nil {
			return err
		}
	}
	if syncsAll {
		return nil
	}
	for _, p := range r.places {
		if err := durable.SyncDir(p.dir); err != nil {
			return err
		}
	}
	for _, it := range r.dirs {
		if err := durable.SyncDir(filepath.Join(it.place.dir, filepath.FromSlash(it.name))); err != nil {
			return err
		}
	}
	return nil
}
