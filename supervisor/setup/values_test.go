package setup

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/supervisor/pgconf"
	"walkeep/supervisor/pgserver"
)

// TestPlanValues plans changes of given settings. It is in the package because only a server gives Run its settings.
func TestPlanValues(t *testing.T) {
	dir := t.TempDir()
	program, spool, other := filepath.Join(dir, "archive-cmd"), filepath.Join(dir, "spool"), filepath.Join(dir, "other")
	if err := os.WriteFile(program, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	call := pgconf.CommandWord(program)
	command := call + " --spool " + pgconf.CommandWord(spool) + ` "%p"`
	for _, test := range []struct {
		name    string
		major   int // 0: 15
		slots   int // that the server will have; 0: 1
		given   map[string]string
		options func(o *Options)
		want    []string // the changes, in their order
		refused string   // a part of the only refusal; empty: none
		notice  string   // a part of the only notice; empty: none
	}{
		{name: "nothing to do", given: map[string]string{archiveCommand: command, archiveMode: "on"}},
		{name: "the defaults", want: []string{"archive_command=" + command, "archive_mode=on"}},
		{
			name:  "a minimal server",
			given: map[string]string{walLevel: "minimal", maxSenders: "0", maxSlots: "0"},
			want:  []string{"wal_level=replica", "max_wal_senders=10", "max_replication_slots=10", "archive_command=" + command, "archive_mode=on"},
		},
		{name: "too few senders", given: map[string]string{maxSenders: "2"}, want: []string{"max_wal_senders=10", "archive_command=" + command, "archive_mode=on"}},
		{name: "just enough senders", given: map[string]string{maxSenders: "3"}, want: []string{"archive_command=" + command, "archive_mode=on"}},
		{
			name: "senders are connections up to 11", major: 11, given: map[string]string{maxSenders: "0", maxConnections: "10"},
			want: []string{"max_wal_senders=6", "archive_command=" + command, "archive_mode=on"},
		},
		{
			name: "too few connections for senders", major: 11, given: map[string]string{maxSenders: "0", maxConnections: "6"},
			want: []string{"archive_command=" + command, "archive_mode=on"}, refused: "max_connections = 6 is too low",
		},
		{
			name: "connections do not matter from 12 on", major: 12, given: map[string]string{maxSenders: "0", maxConnections: "6"},
			want: []string{"max_wal_senders=10", "archive_command=" + command, "archive_mode=on"},
		},
		{name: "one slot too few", slots: 11, want: []string{"max_replication_slots=11", "archive_command=" + command, "archive_mode=on"}},
		{name: "all slots in use", slots: 10, want: []string{"archive_command=" + command, "archive_mode=on"}},
		{name: "archive_mode always stays", given: map[string]string{archiveMode: "always"}, want: []string{"archive_command=" + command}},
		{
			name: "archive_library", given: map[string]string{archiveLibrary: "basic_archive"},
			want: []string{"archive_command=" + command, "archive_mode=on"}, refused: `archive_library is set, to "basic_archive"`,
		},
		{name: "more options of archive-cmd stay", given: map[string]string{archiveCommand: call + " --codec none --spool=" + pgconf.CommandWord(spool) + " %p", archiveMode: "on"}},
		{name: "archive-cmd with a configuration file", given: map[string]string{archiveCommand: call + " %p", archiveMode: "on"}, want: []string{"archive_command=" + command}},
		{name: "another spool", given: map[string]string{archiveCommand: call + " --spool " + pgconf.CommandWord(other) + " %p", archiveMode: "on"}, refused: "archives into another spool, " + other},
		{
			name: "another spool is replaced", given: map[string]string{archiveCommand: call + " --spool " + pgconf.CommandWord(other) + " %p", archiveMode: "on"},
			options: func(o *Options) { o.Replace = true }, want: []string{"archive_command=" + command},
		},
		{name: "another archiver", given: map[string]string{archiveCommand: "PGPASSWORD=secret other push %p", archiveMode: "on"}, refused: "another archiver, other"},
		{
			name: "another archiver is replaced", given: map[string]string{archiveCommand: "other push %p", archiveMode: "on"},
			options: func(o *Options) { o.Replace = true }, want: []string{"archive_command=" + command},
		},
		{name: "a setting of the command line", given: map[string]string{"fixed": archiveMode, archiveCommand: command}, refused: "archive_mode is given on the server's command line"},
		{
			name: "commits wait", given: map[string]string{archiveCommand: command, archiveMode: "on"},
			options: func(o *Options) { o.Synchronous = true }, want: []string{"synchronous_standby_names=walkeep"}, notice: "every commit waits for the stream",
		},
		{
			name: "commits wait for another", given: map[string]string{archiveCommand: command, archiveMode: "on", syncNames: "db2"},
			options: func(o *Options) { o.Synchronous = true }, notice: "commits do not wait for walkeep",
		},
		{
			name: "commits wait already", given: map[string]string{archiveCommand: command, archiveMode: "on", syncNames: "FIRST 1 (db2, Walkeep)"},
			options: func(o *Options) { o.Synchronous = true },
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			var notices []string
			s := &setup{
				Options:  Options{Spool: spool, Program: program, Slot: "walkeep", Out: io.Discard, Notice: func(_, message string) { notices = append(notices, message) }},
				settings: make(map[string]pgserver.Setting), info: pgserver.Info{Major: cmp.Or(test.major, 15)},
			}
			if test.options != nil {
				test.options(&s.Options)
			}
			for name, value := range map[string]string{
				walLevel: "replica", maxSenders: "10", maxSlots: "10", archiveMode: "off", archiveCommand: "", archiveLibrary: "", syncNames: "",
				maxConnections: "100", reserved: "3",
			} {
				if given, ok := test.given[name]; ok {
					value = given
				}
				s.settings[name] = pgserver.Setting{Name: name, Next: value, Fixed: name == test.given["fixed"]}
			}
			s.planValues(cmp.Or(test.slots, 1))
			var got, refused []string
			for _, c := range s.plan.changes {
				got = append(got, c.Name+"="+c.to)
			}
			for _, p := range s.problems {
				refused = append(refused, p.Error())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("changes: got %q, want %q", got, test.want)
			}
			if err := only(refused, test.refused); err != nil {
				t.Errorf("refusals: %v", err)
			}
			if err := only(notices, test.notice); err != nil {
				t.Errorf("notices: %v", err)
			}
		})
	}
}

// TestProgramOf holds that no argument of another archiver's command is printed, as it may be a secret.
func TestProgramOf(t *testing.T) {
	for command, want := range map[string]string{
		"pgbackrest --stanza=main archive-push %p":       "pgbackrest",
		"/usr/bin/wal-g wal-push %p":                     "/usr/bin/wal-g",
		"AWS_SECRET_ACCESS_KEY=secret wal-g wal-push %p": "wal-g",
		"A=1 B=2 /opt/archiver %p":                       "/opt/archiver",
		"/opt/a=b/archiver secret":                       "/opt/a=b/archiver",
		"PASSWORD='a secret' archiver %p":                "a command",
		`PASSWORD=a\ secret archiver %p`:                 "a command",
		`PASSWORD="$(cat the secret)" archiver %p`:       "a command",
		"PASSWORD=`cat secret` archiver %p":              "a command",
		"PASSWORD=secret":                                "a command",
		"":                                               "a command",
	} {
		if got := programOf(command); got != want {
			t.Errorf("%s: got %q, want %q", command, got, want)
		}
	}
}

// only checks that there is one text, and that it contains part; that there is none if part is empty.
func only(texts []string, part string) error {
	if part == "" && len(texts) == 0 || part != "" && len(texts) == 1 && strings.Contains(texts[0], part) {
		return nil
	}
	return fmt.Errorf("got %q, want only %q", texts, part)
}
