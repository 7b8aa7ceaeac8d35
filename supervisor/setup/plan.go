package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/pgserver"
)

// A plan lists the changes to be made.
type plan struct {
	spool   bool
	changes []change
	slot    bool
	role    bool     // make the role
	backUp  bool     // the role that is made may begin backups of files
	grants  []string // to a role that exists
	file    *file

	compareKey string // the key by which encrypted WAL is compared, which is to be made; empty: it exists, or nothing is encrypted
}

// A change is the change of one setting.
type change struct {
	pgserver.Setting
	to string
}

// Empty reports whether there is nothing to do.
func (p plan) Empty() bool {
	return !p.spool && len(p.changes) == 0 && !p.slot && !p.role && len(p.grants) == 0 && p.file == nil && p.compareKey == ""
}

func (p plan) print(s *setup) {
	if p.Empty() {
		s.say("nothing to do: the server is set up")
		return
	}
	if p.spool {
		s.say("plan: make the spool %s, for the user %s alone", s.Spool, s.user.Name)
	}
	if p.file != nil {
		s.say("plan: write %s", p.file.path)
		for _, l := range strings.Split(strings.TrimSpace(string(p.file.content())), "\n") {
			s.say("        %s", l)
		}
	}
	if p.compareKey != "" {
		s.say("plan: make %s, by which encrypted WAL is compared", p.compareKey)
	}
	if p.role {
		also := ""
		if s.plan.backUp {
			also = ", and may begin and end backups"
		}
		s.say("plan: make the role %s, which may log in and replicate, and is a member of pg_monitor%s; without a password", s.Role, also)
	}
	if len(p.grants) > 0 {
		s.say("plan: give the role %s %s", s.Role, strings.Join(p.grants, ", "))
	}
	if p.slot {
		s.say("plan: make the physical replication slot %s", s.Slot)
	}
	for _, c := range p.changes {
		restart := ""
		if c.Restart {
			restart = " (needs a restart)"
		}
		s.say("plan: set %s: %s -> %s%s", c.Name, s.shown(c.Name, c.Next), s.shown(c.Name, c.to), restart)
	}
}

// shown returns a setting's value as setup prints it.
func (s *setup) shown(name, value string) string {
	if value == "" {
		return "(empty)"
	}
	if name == archiveCommand {
		if words, _ := pgconf.CommandWords(value); len(words) == 0 || filepath.Base(words[0]) != filepath.Base(s.Program) {
			return programOf(value) + " ..."
		}
	}
	return value
}

// programOf returns the program that another archiver's command calls. Its arguments may contain secrets.
func programOf(command string) string {
	for word := range strings.FieldsSeq(command) {
		name, _, assigns := strings.Cut(word, "=")
		switch {
		case !assigns || strings.Contains(name, "/"):
			return word
		case strings.ContainsAny(word, "'\"\\`$"): // the value may continue in the next word
			return "a command"
		}
	}
	return "a command"
}

// set plans the change of a setting.
func (s *setup) set(name, to string) {
	have := s.settings[name]
	if have.Fixed {
		s.refuse(fmt.Sprintf("set %s = %s there, or remove it from there", name, to),
			"%s is given on the server's command line, which overrides ALTER SYSTEM", name)
		return
	}
	s.plan.changes = append(s.plan.changes, change{have, to})
}

// planSettings plans the settings that need a change.
func (s *setup) planSettings(ctx context.Context) error {
	slots, err := s.conn.CountSlots(ctx)
	if err != nil {
		return err
	}
	have, err := s.conn.FindSlot(ctx, s.Slot)
	if err != nil {
		return err
	}
	if have == nil {
		slots++
	}
	s.planValues(slots)
	return nil
}

// planValues plans the settings that need a change, in the order in which they can be changed. slots is the number of
// replication slots that the server will have.
func (s *setup) planValues(slots int) {
	if s.settings[walLevel].Next == "minimal" {
		s.set(walLevel, "replica")
	}
	s.planSenders()
	if number(s.settings[maxSlots].Next) < slots {
		s.set(maxSlots, strconv.Itoa(max(10, slots)))
	}
	if library := s.settings[archiveLibrary].Next; library != "" {
		s.refuse("reset archive_library first (ALTER SYSTEM RESET archive_library, or in postgresql.conf)",
			"archive_library is set, to %q: PostgreSQL does not allow archive_command together with it", library)
	}
	s.planCommand()
	if s.settings[archiveMode].Next == "off" {
		s.set(archiveMode, "on")
	}
	if s.Synchronous {
		s.planSynchronous()
	}
}

func number(text string) int {
	n, _ := strconv.Atoi(text)
	return n
}

// leastSenders is enough for the stream and for a backup, which needs two connections.
const leastSenders = 3

// planSenders plans enough connections for the stream and a backup. Up to PostgreSQL 11, max_connections includes
// them.
func (s *setup) planSenders() {
	if number(s.settings[maxSenders].Next) >= leastSenders {
		return
	}
	to := 10
	if s.info.Major < 12 {
		to = min(to, number(s.settings[maxConnections].Next)-number(s.settings[reserved].Next)-1)
	}
	if to < leastSenders {
		s.refuse("raise max_connections by a few, and restart the server",
			"max_wal_senders must be at least %d, and max_connections = %s is too low for that", leastSenders, s.settings[maxConnections].Next)
		return
	}
	s.set(maxSenders, strconv.Itoa(to))
}

// command returns the archive_command that calls archive-cmd for this spool.
func (s *setup) command() string {
	words := []string{pgconf.CommandWord(s.Program), "--spool", pgconf.CommandWord(s.Spool)}
	if s.FileArg {
		words = append(words, "--config", pgconf.CommandWord(s.File))
	}
	return strings.Join(append(words, `"%p"`), " ")
}

// planCommand keeps a command that archives into this spool, whatever other options it has.
func (s *setup) planCommand() {
	have := s.settings[archiveCommand].Next
	want := s.command()
	if have == "" || have == want {
		if have == "" {
			s.set(archiveCommand, want)
		}
		return
	}
	spool, ours := s.archivesInto(have)
	if !ours && !s.Replace {
		s.refuse("--replace replaces it, and setup --undo restores it; a server has only one archive_command",
			"archive_command belongs to another archiver, %s", programOf(have))
		return
	}
	if spool != "" && (filepath.Clean(spool) == s.Spool || sameFile(spool, s.Spool)) {
		return
	}
	if spool != "" && !s.Replace {
		s.refuse("give that spool with --spool, or --replace to change to the new one",
			"archive_command archives into another spool, %s", spool)
		return
	}
	s.set(archiveCommand, want)
}

// archivesInto returns the spool that an archive_command names; ours reports whether it calls this archive-cmd.
func (s *setup) archivesInto(command string) (spool string, ours bool) {
	words, plain := pgconf.CommandWords(command)
	if !plain || len(words) == 0 || !sameFile(words[0], s.Program) {
		return "", false
	}
	return optionOf(words, "--spool"), true
}

// optionOf returns the value of an option in a command's words.
func optionOf(words []string, name string) string {
	for i, w := range words {
		if value, ok := strings.CutPrefix(w, name+"="); ok {
			return value
		}
		if w == name && i+1 < len(words) {
			return words[i+1]
		}
	}
	return ""
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// streamer is the application_name of the stream.
const streamer = "walkeep"

func (s *setup) planSynchronous() {
	have := s.settings[syncNames].Next
	if have == "" {
		s.notice("start the stream now ("+cli.Call("run")+", or sync)",
			"with synchronous_standby_names every commit waits for the stream of the command run or sync")
		s.set(syncNames, streamer)
		return
	}
	if !strings.Contains(strings.ToLower(have), streamer) && have != "*" {
		s.notice("add walkeep to it by hand, if commits are to wait for the archive",
			"synchronous_standby_names is %q, and stays as it is: commits do not wait for walkeep", have)
	}
}

// planSlot plans the slot, unless it exists.
func (s *setup) planSlot(ctx context.Context) error {
	have, err := s.conn.FindSlot(ctx, s.Slot)
	switch {
	case err != nil:
		return err
	case have == nil:
		s.plan.slot = true
	case !have.Physical:
		s.refuse("choose another name with --slot", "the replication slot %s is a logical one", s.Slot)
	case have.Temporary:
		s.refuse("choose another name with --slot", "the replication slot %s is a temporary one, of another session", s.Slot)
	default:
		s.ok("the replication slot %s exists", s.Slot)
	}
	return nil
}

// planRole plans the role, or the rights that it lacks.
func (s *setup) planRole(ctx context.Context) error {
	if s.Role == "" {
		return nil
	}
	have, err := s.conn.FindRole(ctx, s.Role)
	if err != nil {
		return err
	}
	mayGrant, err := s.conn.MayGrantBackUp(ctx)
	if err != nil {
		return err
	}
	if have == nil {
		if strings.HasPrefix(s.Role, "pg_") {
			s.refuse("choose another name with --role",
				"the role %s cannot be made: PostgreSQL reserves names that begin with pg_", s.Role)
			return nil
		}
		s.plan.role, s.plan.backUp = true, mayGrant
		return nil
	}
	if !have.Login {
		s.plan.grants = append(s.plan.grants, pgserver.GrantLogin)
	}
	if !have.Replication && !have.Superuser {
		s.plan.grants = append(s.plan.grants, pgserver.GrantReplication)
	}
	if !have.Monitor {
		s.plan.grants = append(s.plan.grants, pgserver.GrantMonitor)
	}
	if !have.BackUp && mayGrant {
		s.plan.grants = append(s.plan.grants, pgserver.GrantBackUp)
	}
	if len(s.plan.grants) == 0 {
		s.ok("the role %s has what it needs", s.Role)
	}
	return nil
}

// planFile plans the configuration file. An existing one is not changed.
func (s *setup) planFile(context.Context) error {
	f, err := s.configuration()
	if err != nil {
		return err
	}
	info, err := os.Stat(s.File)
	if errors.Is(err, fs.ErrNotExist) {
		dir := filepath.Dir(s.File)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			s.refuse("make that directory, or name another file with --config",
				"the configuration file %s cannot be written: %s is not an existing directory", s.File, dir)
			return nil
		}
		if err := writable(dir); err != nil {
			s.refuse("call setup as root, or name another file with --config",
				"the configuration file %s cannot be written: %s: %v", s.File, dir, err)
			return nil
		}
		s.plan.file = &f
		return nil
	}
	if err != nil {
		return err
	}
	if !s.user.Reads(info) {
		s.refuse("give it to "+s.user.Name,
			"the server's user %s cannot read the configuration file %s, which archive-cmd reads", s.user.Name, s.File)
		return nil
	}
	lacks, differs, err := f.missing()
	if err != nil {
		return err
	}
	if len(lacks)+len(differs) == 0 {
		s.ok("the configuration file is %s", s.File)
		return nil
	}
	if l := config.Line(recipientsFile, s.Recipients); s.Recipients != "" && (slices.Contains(lacks, l) || slices.Contains(differs, l)) {
		s.refuse("add the line "+l+" to it, in place of another one of this key", "archive-cmd would not encrypt for %s: the configuration file %s names other recipients, or none", s.Recipients, s.File)
		return nil
	}
	s.ok("the configuration file %s exists, and stays as it is", s.File)
	for _, l := range lacks {
		s.say("  add the line: %s", l)
	}
	for _, l := range differs {
		s.say("  it has another value than: %s", l)
	}
	return nil
}
