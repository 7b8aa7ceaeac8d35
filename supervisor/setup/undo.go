package setup

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/durable"
	"walkeep/supervisor/pgconf"
)

// Undo restores the state before Run. It does nothing if Run has changed nothing, or if all is restored already.
func Undo(ctx context.Context, o Options) error {
	s := &setup{Options: o}
	defer s.close(ctx)
	if err := s.begin(ctx); err != nil {
		return err
	}
	if err := s.checkServer(ctx); err != nil {
		return err
	}
	if err := s.checkRestart(ctx); err != nil {
		return err
	}
	if err := s.refused(); err != nil {
		return err
	}
	if err := s.refresh(ctx); err != nil {
		return err
	}
	u, err := s.planUndo(ctx)
	if err != nil {
		return err
	}
	if s.DryRun {
		s.say("nothing was changed: this was a dry run")
		return nil
	}
	return halfDone(ctx, u.change(ctx))
}

// change carries out the undo.
func (u *undo) change(ctx context.Context) error {
	if err := u.apply(ctx); err != nil {
		return err
	}
	if err := u.refresh(ctx); err != nil {
		return err
	}
	return u.restartIfNeeded(ctx, "setup --undo")
}

// An undo lists what is to be restored.
type undo struct {
	*setup
	slots    []string
	others   []string // slots that stay
	settings []noted  // in the order in which they can be changed back
	drop     []string
	revoke   []notedRole
}

// planUndo reads the note, and prints what is to be done.
func (s *setup) planUndo(ctx context.Context) (*undo, error) {
	u := &undo{setup: s}
	var err error
	if s.note, err = readNote(ctx, s.Spool); err != nil {
		return nil, err
	}
	if s.note == nil {
		s.say("nothing to undo: there is no note of a setup in %s", s.Spool)
		if words, ok := pgconf.CommandWords(s.settings[archiveCommand].Next); ok && len(words) > 0 && sameFile(words[0], s.Program) {
			s.notice("give the spool that was given to setup; undo manual settings by hand",
				"archive_command calls archive-cmd: %s", s.settings[archiveCommand].Next)
		}
		return u, nil
	}
	if s.note.SystemID != s.info.SystemID {
		return nil, problem("check --spool and --conninfo",
			"the note in %s is %w: its system identifier is %s, the server's %s", s.Spool, archive.ErrForeign, s.note.SystemID, s.info.SystemID)
	}
	if err := u.planSlots(ctx); err != nil {
		return nil, err
	}
	if u.others, err = u.conn.Strings(ctx, `SELECT slot_name::text FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name`); err != nil {
		return nil, fmt.Errorf("list the replication slots: %w", err)
	}
	u.others = slices.DeleteFunc(u.others, func(name string) bool { return slices.Contains(u.slots, name) })
	u.planSettings()
	if err := u.planRoles(ctx); err != nil {
		return nil, err
	}
	for _, f := range s.note.Files {
		switch {
		case f.unchanged():
			s.say("plan: remove %s", f.Path)
		case exists(f.Path):
			s.notice("remove it if it is no longer needed", "%s was changed since, and stays", f.Path)
		}
	}
	switch {
	case !s.note.SpoolMade:
	case onlyNote(s.Spool):
		s.say("plan: remove the spool %s", s.Spool)
	default:
		s.say("plan: keep the spool %s, which contains an archive", s.Spool)
	}
	s.say("plan: remove the note of the setup")
	return u, nil
}

func (u *undo) planSlots(ctx context.Context) error {
	other, ours := u.archivesInto(u.setup.settings[archiveCommand].Next)
	if ours && len(u.note.Slots) > 0 && !sameFile(other, u.Spool) {
		u.notice("drop it by hand if nothing streams with it", "the server now archives into %s, so the replication slot %s may belong to that spool, and stays", other, strings.Join(u.note.Slots, ", "))
		return nil
	}
	for _, name := range u.note.Slots {
		have, err := u.conn.FindSlot(ctx, name)
		switch {
		case err != nil:
			return err
		case have == nil:
			continue
		case have.Active:
			return problem("stop the service, or "+cli.Call("run")+" or sync, first", "the replication slot %s is in use", name)
		case !have.Physical:
			u.notice("", "the replication slot %s was not made by setup, and stays", name)
			continue
		}
		u.slots = append(u.slots, name)
		u.say("plan: drop the replication slot %s", name)
	}
	return nil
}

func (u *undo) planSettings() {
	for _, name := range slices.Backward(order) {
		i := slices.IndexFunc(u.note.Settings, func(n noted) bool { return n.Name == name })
		if i < 0 {
			continue
		}
		n, now := u.note.Settings[i], u.setup.settings[name].Auto
		switch {
		case same(n.Was, now):
		case len(u.others) > 0 && (name == walLevel || name == maxSlots):
			// Since 19, wal_level = replica is enough for logical slots: effective_wal_level rises by itself.
			u.notice("change it by hand when they are dropped", "%s stays as it is: with a lower value, the server does not start as long as it has the replication slots %s",
				name, strings.Join(u.others, ", "))
		case !n.ours(now):
			u.notice("change it by hand if it is not right", "%s was changed since, and stays as it is", name)
		case n.Was == nil:
			u.say("plan: reset %s, which is %s", name, u.shown(name, *now))
			u.settings = append(u.settings, n)
		default:
			u.say("plan: set %s: %s -> %s", name, u.shown(name, *now), u.shown(name, *n.Was))
			u.settings = append(u.settings, n)
		}
	}
}

func same(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

func (u *undo) planRoles(ctx context.Context) error {
	for _, r := range u.note.Roles {
		have, err := u.conn.FindRole(ctx, r.Name)
		switch {
		case err != nil:
			return err
		case have == nil:
		case r.Made:
			u.say("plan: drop the role %s", r.Name)
			u.drop = append(u.drop, r.Name)
		case len(r.Granted) > 0:
			u.say("plan: take %s from the role %s", strings.Join(r.Granted, ", "), r.Name)
			u.revoke = append(u.revoke, r)
		}
	}
	return nil
}

// apply undoes the steps in the reverse order. It removes the note last.
func (u *undo) apply(ctx context.Context) error {
	if u.note == nil {
		if _, err := os.Stat(u.Spool); err == nil {
			durable.Sweep(u.Spool) // of a setup that was killed
		}
		return removePassing(u.Spool)
	}
	for _, name := range u.slots {
		if err := u.conn.DropSlot(ctx, name); err != nil {
			return err
		}
		u.say("done: dropped the replication slot %s", name)
	}
	if err := u.restoreSettings(ctx); err != nil {
		return err
	}
	for _, name := range u.drop {
		if err := u.conn.DropRole(ctx, name); err != nil {
			return problem("drop what it owns, or revoke what it was granted since (DROP OWNED BY, in each database), and call setup --undo again",
				"%w", err)
		}
		u.say("done: dropped the role %s", name)
	}
	for _, r := range u.revoke {
		if err := u.conn.Revoke(ctx, r.Name, r.Granted); err != nil {
			return err
		}
		u.say("done: took from the role %s the rights that setup had granted", r.Name)
	}
	for _, f := range u.note.Files {
		there := exists(f.Path)
		if err := f.remove(); err != nil {
			return fmt.Errorf("remove %s: %w", f.Path, err)
		}
		if there && !exists(f.Path) {
			u.say("done: removed %s", f.Path)
		}
	}
	gone, err := removeNote(u.Spool, u.note.SpoolMade)
	if err != nil {
		return fmt.Errorf("remove the note of the setup: %w", err)
	}
	if gone {
		u.say("done: removed the spool %s", u.Spool)
	}
	return nil
}

func (u *undo) restoreSettings(ctx context.Context) error {
	for _, n := range u.settings {
		var err error
		if n.Was == nil {
			err = u.conn.ResetSystem(ctx, n.Name)
		} else {
			err = u.conn.AlterSystem(ctx, n.Name, *n.Was)
		}
		if err != nil {
			return err
		}
		u.say("done: put %s back", n.Name)
	}
	// It is needed also if a killed undo has changed all settings, but was killed before its reload.
	return u.reload(ctx)
}
