package main

import (
	"context"
	"fmt"
	"time"

	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/notes"
	"walkeep/common/pgdata"
	"walkeep/common/recovery"
	"walkeep/common/wal"
	"walkeep/supervisor/pgserver"
)

// productionTimeout bounds the question to the server for its timeline. The server may be down, which is a reason for a restore.
const productionTimeout = 5 * time.Second

// askProduction asks the server which timeline it is on, if there are several and the archive does not know. For a standby
// that is to stream, it is the server that it streams from.
func (call *invocation) askProduction(ctx context.Context, a *archive.Archive, inv *recovery.Inventory) {
	conninfo := call.Conninfo
	switch {
	case call.Given("primary-conninfo"):
		conninfo = call.PrimaryConninfo
	case !call.serverNamed(), inv.Production().Said, len(inv.Branches(inv.Newest())) == 0:
		return
	}
	call.askServer(ctx, a, inv, conninfo)
}

// askServer asks a server which timeline it is on, and stores the answer in inv and in the archive.
func (call *invocation) askServer(ctx context.Context, a *archive.Archive, inv *recovery.Inventory, conninfo string) {
	ctx, cancel := context.WithTimeout(ctx, productionTimeout)
	defer cancel()
	c, err := pgserver.Connect(ctx, conninfo)
	if err != nil {
		call.msg.Detail("the server's timeline cannot be determined: %v", err)
		return
	}
	defer c.Close(context.WithoutCancel(ctx))
	info, err := c.Info(ctx)
	if err != nil || info.InRecovery || info.SystemID != inv.SystemID {
		return
	}
	if tli, at, err := c.WritesTo(ctx); err == nil {
		inv.Server = &notes.Server{SystemID: info.SystemID, Timeline: tli, LSN: at, Newest: inv.Newest()}
		if err := a.Notes().NoteServer(ctx, *inv.Server); err != nil {
			call.msg.Detail("the server's timeline cannot be stored in the archive: %v", err)
		}
	}
}

// disown leaves out what the server of a data directory said while it was the production server: it is to follow another
// one now.
func (call *invocation) disown(inv *recovery.Inventory, dir string) {
	c, err := pgdata.ReadControl(dir)
	if err == nil && (c.State == pgdata.InProduction || c.State == pgdata.ShutDown) && inv.Server != nil && c.Timeline == inv.Server.Timeline {
		inv.Server = nil
	}
}

// warnBranches warns of the timelines with WAL that a recovery along the planned one leaves out.
func (call *invocation) warnBranches(ctx context.Context, a *archive.Archive, p *planned) {
	production := p.inv.Production()
	own := fmt.Sprintf("recovery goes along timeline %d, %s", p.plan.Timeline, call.endOf(ctx, a, p.inv, p.plan.Timeline))
	switch {
	case production.Said && production.Timeline == p.plan.Timeline:
		own += ", which is the production server's"
	case p.plan.Timeline == p.inv.Newest():
		own += ", because it is the newest"
	}
	for _, b := range p.inv.Branches(p.plan.Timeline) {
		if production.Said && !b.Copy {
			continue // the production server has left it
		}
		n := fmt.Sprint(uint32(b.Timeline))
		hint := "--target-timeline " + n + " recovers along it"
		if b.Copy {
			hint += "; if it is only a copy's, " + cli.Call("cleanup", "--drop-timeline", n) + " removes it"
		}
		call.msg.Warn(hint, "%s; timeline %s, which parts from it at %s, is not in it: %s", own, n, b.Left, call.endOf(ctx, a, p.inv, b.Timeline))
	}
}

// warnBeside warns of the other timelines that have WAL of the target's time.
func (call *invocation) warnBeside(p *planned) {
	for _, b := range p.plan.Beside {
		call.msg.Warn(fmt.Sprintf("--target-timeline %d recovers along that one", uint32(b.Timeline)),
			"recovery goes along timeline %d; %s, also has WAL for this time", p.plan.Timeline, b)
	}
}

// warnAgain names the restore points of the target's name that recovery does not come to.
func (call *invocation) warnAgain(p *planned) {
	for _, at := range p.plan.Again {
		call.msg.Warn("--target-lsn "+at.String()+" recovers to that one",
			"recovery ends at the first %s, at %s; there is another one of this name at %s", p.plan.Target, p.plan.At, at)
	}
}

// endOf describes how far a timeline can be recovered.
func (call *invocation) endOf(ctx context.Context, a *archive.Archive, inv *recovery.Inventory, tli wal.Timeline) string {
	var last *recovery.Window
	for _, w := range inv.Windows() {
		if w.Timeline == tli {
			last = &w
		}
	}
	if last == nil {
		return "which no backup leads to"
	}
	text := "which ends at " + last.To.String()
	if end, err := inv.EndOfRecords(ctx, *last); err == nil {
		text = "which ends at " + end.String()
	}
	if t, err := inv.LastCommit(ctx, *last); err == nil && !t.IsZero() {
		text += " (last transaction " + wal.FormatTime(t) + ")"
	}
	return text
}
