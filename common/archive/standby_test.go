package archive_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/host"
	"walkeep/common/notes"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
)

// counting counts how often a note is written.
type counting struct {
	mem.Backend
	replaced int
}

func (b *counting) Replace(ctx context.Context, name string, content []byte) error {
	b.replaced++
	return b.Backend.Replace(ctx, name, content)
}

func TestNoteStandby(t *testing.T) {
	b := new(counting)
	r := archivetest.New(t, b)
	noted := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		what, data, restartpoint string
		before                   func()
		written                  bool
		notes                    int
	}{
		{"not known yet", "/data", "000000000000000000000000", nil, false, 0},
		{"no name", "/data", "%r", nil, false, 0},
		{"the first", "/data", "000000010000000000000003", nil, true, 1},
		{"the same again", "/data", "000000010000000000000003", nil, false, 1},
		{"it moves on", "/data", "000000010000000000000004", nil, true, 1},
		{"another data directory", "/data2", "000000010000000000000001", nil, true, 2},
		{"back to where it was", "/data", "000000010000000000000002", nil, true, 2},
		{"a new timeline", "/data", "000000020000000000000002", nil, true, 2},
		{"a broken note", "/data", "000000020000000000000002", func() {
			for _, note := range archivetest.Walk(t, b, "standbys/") {
				r.Put(note, []byte("{"))
			}
		}, true, 2},
	} {
		if test.before != nil {
			test.before()
		}
		before := b.replaced
		s := notes.Standby{Host: "host", Data: test.data, Restartpoint: test.restartpoint, Noted: noted}
		if err := r.A.Notes().NoteStandby(t.Context(), s); err != nil {
			t.Errorf("%s: %v", test.what, err)
		}
		if got := b.replaced > before; got != test.written {
			t.Errorf("%s: written %t, want %t", test.what, got, test.written)
		}
		there := archivetest.Walk(t, b, "standbys/")
		if len(there) != test.notes {
			t.Errorf("%s: got %d notes, want %d: %q", test.what, len(there), test.notes, there)
		}
		if !test.written {
			continue
		}
		found := false
		for _, note := range there {
			var got notes.Standby
			if json.Unmarshal(r.Read(note), &got) == nil && got == s {
				found = true
			}
		}
		if !found {
			t.Errorf("%s: no note says %+v", test.what, s)
		}
	}
}

// readOnly is a backend that this host may only read.
type readOnly struct{ storage.Backend }

func (readOnly) Replace(context.Context, string, []byte) error {
	return errors.New("this archive keeps no notes")
}

// In a spool that this host may only read, a note is refused with an error.
func TestNoteStandbyWithoutNotes(t *testing.T) {
	a := archive.New(readOnly{new(mem.Backend)})
	err := a.Notes().NoteStandby(t.Context(), notes.Standby{Host: "h", Data: "/d", Restartpoint: "000000010000000000000003"})
	if err == nil || !strings.Contains(err.Error(), "keeps no notes") {
		t.Errorf("got %v", err)
	}
	b := new(mem.Backend)
	if err := archive.New(b).Notes().NoteStandby(t.Context(), notes.Standby{Host: "h", Data: "/d", Restartpoint: "000000010000000000000003"}); err != nil {
		t.Fatal(err)
	}
	for _, note := range archivetest.Walk(t, b, "standbys/") {
		if !strings.HasPrefix(note, "standbys/") || !strings.HasSuffix(note, ".json") {
			t.Errorf("got a note %q", note)
		}
	}
}

// Standbys of two machines whose hosts have one name, with the same data directory, have a note each.
func TestStandbysOfHostsWithOneName(t *testing.T) {
	here := host.Here()
	if here.Machine == "" {
		t.Skip("this machine has no name of its own")
	}
	r := archivetest.New(t, new(mem.Backend))
	other := notes.StandbyID(here.Host, "/data")
	first := `{"host":"` + here.Host + `","machine":"another","data_directory":"/data","restartpoint":"000000010000000000000002"}` + "\n"
	r.Put("standbys/"+other+".json", []byte(first))
	note := func(at string) {
		t.Helper()
		if err := r.A.Notes().NoteStandby(t.Context(), notes.Standby{Host: here.Host, Data: "/data", Restartpoint: at}); err != nil {
			t.Fatal(err)
		}
	}
	note("000000010000000000000005")
	own, err := r.A.Notes().StandbyHere(t.Context(), "/data")
	if err != nil || own == other {
		t.Fatalf("it has the other one's ID %s, %v", own, err)
	}
	if err := r.A.Notes().ForgetStandby(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	note("000000010000000000000006")
	if got, want := archivetest.Walk(t, r.B, "standbys/"), []string{"standbys/" + own + ".json"}; !slices.Equal(got, want) {
		t.Errorf("without the other one: got %q, want %q", got, want)
	}
	if id, err := r.A.Notes().StandbyHere(t.Context(), "/data2"); err != nil || id != notes.StandbyID(here.Host, "/data2") {
		t.Errorf("where nobody else is: got %s, %v", id, err)
	}
}
