package restore

import (
	"path/filepath"

	"walkeep/common/durable"
)

// sync makes everything that was written durable. The control file is written after it.
func (r *restorer) sync() error {
	for _, p := range r.roots {
		if err := p.sync.all(); err != nil {
			return err
		}
	}
	if syncsAll {
		return nil
	}
	for _, p := range r.roots {
		if err := durable.SyncDir(p.dir); err != nil {
			return err
		}
	}
	for _, it := range r.dirs {
		if err := durable.SyncDir(filepath.Join(it.root.dir, filepath.FromSlash(it.name))); err != nil {
			return err
		}
	}
	return nil
}
