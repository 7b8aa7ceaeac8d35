package setup

import (
	"bytes"
	"testing"
	"time"

	"walkeep/common/account"
	"walkeep/common/cmdtest"
	"walkeep/supervisor/pgserver"
)

// TestPlanGolden compares what setup prints before it changes anything with a golden file. It is in the package
// because making a plan needs a server, and printing one does not.
func TestPlanGolden(t *testing.T) {
	setting := func(name, value string, restart bool) pgserver.Setting {
		return pgserver.Setting{Name: name, Next: value, Restart: restart}
	}
	for name, plan := range map[string]plan{
		"nothing": {},
		"all": {
			spool: true, slot: true, role: true, file: new(file),
			changes: []change{
				{setting(walLevel, "minimal", true), "replica"}, {setting(maxSenders, "0", true), "10"},
				{setting(archiveCommand, "", false), "/usr/lib/walkeep/archive-cmd --spool '/srv/the wal' %p"}, {setting(archiveMode, "off", true), "on"},
				{setting(syncNames, "", false), "walkeep"},
			},
		},
		"another-archiver": {
			grants:  []string{"REPLICATION", "pg_monitor"},
			changes: []change{{setting(archiveCommand, "PGPASSWORD=secret other-archiver push %p", false), "/usr/lib/walkeep/archive-cmd --spool /srv/wal %p"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			s := &setup{
				Options: Options{
					Conninfo: "host=/run/postgresql user=postgres", Spool: "/srv/the wal", Program: "/usr/lib/walkeep/archive-cmd", Slot: "walkeep", Role: "keeper",
					File: "/etc/walkeep/walkeep.ini", Synchronous: true, FlushInterval: time.Second, Out: &out,
					Notice: func(hint, message string) { t.Errorf("warning: %s (%s)", message, hint) },
				},
				data: "/var/lib/postgresql/15/main", user: account.Account{Name: "postgres"},
			}
			if plan.file != nil {
				for _, variable := range []string{"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGSERVICE", "PGPASSFILE"} {
					t.Setenv(variable, "")
				}
				f, err := s.configuration()
				if err != nil {
					t.Fatal(err)
				}
				plan.file = &f
			}
			plan.print(s)
			cmdtest.Golden(t, "testdata/plan-"+name+".golden", out.String())
		})
	}
}
