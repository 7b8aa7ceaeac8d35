package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"walkeep/common/sealed"
	"walkeep/supervisor/pgserver"
)

// apply carries out the plan. It writes the note of the previous state first.
func (s *setup) apply(ctx context.Context) error {
	if s.plan.Empty() {
		return s.completeReload(ctx)
	}
	if err := s.writeNote(ctx); err != nil {
		return err
	}
	if key := s.plan.compareKey; key != "" {
		if _, err := sealed.MakeCompareKey(s.Recipients); err != nil {
			return err
		}
		if err := s.user.Give(key); err != nil {
			return err
		}
		s.say("done: made %s; it stays when setup is undone, and every host that archives this cluster needs a copy", key)
	}
	if f := s.plan.file; f != nil {
		switch err := f.make(s.user); {
		case errors.Is(err, fs.ErrExist):
			s.notice("call setup again to check its contents",
				"another process has written %s meanwhile; it stays as it is", f.path)
		case err != nil:
			return err
		default:
			s.say("done: wrote %s", f.path)
		}
	}
	if err := s.makeRole(ctx); err != nil {
		return err
	}
	if s.plan.slot {
		if _, err := s.makeSlot(ctx); err != nil {
			return err
		}
	}
	for _, c := range s.plan.changes {
		if err := s.conn.AlterSystem(ctx, c.Name, c.to); err != nil {
			return err
		}
		s.say("done: set %s", c.Name)
	}
	if len(s.plan.changes) > 0 {
		return s.reload(ctx)
	}
	return s.completeReload(ctx)
}

// completeReload reloads the server if an earlier setup was killed before its reload.
func (s *setup) completeReload(ctx context.Context) error {
	for _, name := range []string{archiveCommand, syncNames} {
		if have := s.settings[name]; have.Running != have.Next && have.Running != "(disabled)" {
			return s.reload(ctx)
		}
	}
	return nil
}

func (s *setup) reload(ctx context.Context) error {
	err := s.conn.Reload(ctx)
	if errors.Is(err, pgserver.ErrNotReloaded) {
		return problem("the server's log names the wrong line of its configuration; correct it and call setup again", "%w", err)
	}
	return err
}

// writeNote records what is about to change.
func (s *setup) writeNote(ctx context.Context) error {
	n := s.note
	if n == nil {
		n = &note{Version: noteVersion, SystemID: s.info.SystemID}
	}
	n.SpoolMade = n.SpoolMade || s.plan.spool
	for _, c := range s.plan.changes {
		n.setting(c.Name, c.Auto, c.to)
	}
	if s.plan.slot {
		n.slot(s.Slot)
	}
	if s.plan.role || len(s.plan.grants) > 0 {
		n.role(s.Role, s.plan.role, s.plan.grants)
	}
	if f := s.plan.file; f != nil {
		n.file(notedFile{f.path, sum(f.content())})
	}
	s.note = n
	if !s.plan.spool {
		return n.write(ctx, s.Spool, s.user)
	}
	if err := removePassing(s.Spool); err != nil {
		return err
	}
	if err := makeSpool(ctx, s.Spool, n, s.user); err != nil {
		return errors.Join(fmt.Errorf("make the spool: %w", err), removePassing(s.Spool))
	}
	s.say("done: made the spool %s", s.Spool)
	return nil
}

func (s *setup) makeRole(ctx context.Context) error {
	if s.plan.role {
		if err := s.conn.MakeRole(ctx, s.Role, s.plan.backUp); err != nil {
			return err
		}
		s.say("done: made the role %s", s.Role)
	}
	if len(s.plan.grants) > 0 {
		if err := s.conn.Grant(ctx, s.Role, s.plan.grants); err != nil {
			return err
		}
		s.say("done: gave the role %s the rights that it lacked", s.Role)
	}
	return nil
}

// makeSlot makes the slot if the running server supports it, and reports whether the slot exists.
func (s *setup) makeSlot(ctx context.Context) (bool, error) {
	have, err := s.conn.FindSlot(ctx, s.Slot)
	if have != nil || err != nil {
		return have != nil, err
	}
	used, err := s.conn.CountSlots(ctx)
	if err != nil {
		return false, err
	}
	if s.settings[walLevel].Running == "minimal" || number(s.settings[maxSlots].Running) <= used {
		return false, nil
	}
	if err := s.conn.MakeSlot(ctx, s.Slot); err != nil {
		return false, err
	}
	s.say("done: made the replication slot %s", s.Slot)
	return true, nil
}
