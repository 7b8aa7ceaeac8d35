package setup

import (
	"slices"
	"testing"
)

func text(s string) *string { return &s }

// A note keeps what was there before setup, and nothing that setup itself has set.
func TestNoteSetting(t *testing.T) {
	for name, test := range map[string]struct {
		seen []*string // the entry at each setup, which sets "ours", "ours too" and so on
		was  *string
	}{
		"absent":               {[]*string{nil}, nil},
		"a value":              {[]*string{text("theirs")}, text("theirs")},
		"an empty value":       {[]*string{text("")}, text("")},
		"set up again":         {[]*string{text("theirs"), text("ours")}, text("theirs")},
		"killed, and again":    {[]*string{text("theirs"), text("theirs")}, text("theirs")},
		"set up three times":   {[]*string{nil, text("ours"), text("ours too")}, nil},
		"changed since":        {[]*string{text("theirs"), text("new")}, text("new")},
		"removed since":        {[]*string{text("theirs"), nil}, nil},
		"changed, then killed": {[]*string{text("theirs"), text("new"), text("new")}, text("new")},
	} {
		var n note
		sets := []string{"ours", "ours too", "ours three"}
		for i, now := range test.seen {
			n.setting("x", now, sets[i])
		}
		if len(n.Settings) != 1 || !same(n.Settings[0].Was, test.was) {
			t.Errorf("%s: got %+v", name, n.Settings)
		}
		if !n.Settings[0].ours(text(sets[len(test.seen)-1])) {
			t.Errorf("%s: what was set last is not known: %+v", name, n.Settings)
		}
	}
}

func TestNoteRole(t *testing.T) {
	var n note
	n.role("made", true, nil)
	n.role("made", false, []string{"LOGIN"}) // somebody took it meanwhile; the role goes as a whole
	n.role("theirs", false, []string{"LOGIN"})
	n.role("theirs", false, []string{"LOGIN", "pg_monitor"})
	if len(n.Roles) != 2 || !n.Roles[0].Made || n.Roles[0].Granted != nil || n.Roles[1].Made ||
		!slices.Equal(n.Roles[1].Granted, []string{"LOGIN", "pg_monitor"}) {
		t.Errorf("got %+v", n.Roles)
	}
}
