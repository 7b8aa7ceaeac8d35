package replication_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"walkeep/supervisor/replication"
)

// sent is a time as the messages hold it: 0x0002ED4F6B1A4000 microseconds after the year 2000 began.
var sent = time.UnixMicro(0x0002ED4F6B1A4000 + 946_684_800_000_000).UTC()

// messages are all kinds of messages with the bytes that PostgreSQL's documentation gives them.
var messages = []struct {
	name    string
	message replication.Message
	bytes   string // in hexadecimal
}{
	{"XLogData", &replication.XLogData{Start: 0x1_02000028, End: 0x1_02000060, Time: sent, Data: []byte("WAL")},
		"77 0000000102000028 0000000102000060 0002ED4F6B1A4000 57414C"},
	{"XLogData without data", &replication.XLogData{Start: 1, End: 1, Time: sent, Data: []byte{}},
		"77 0000000000000001 0000000000000001 0002ED4F6B1A4000"},
	{"PrimaryKeepalive", &replication.PrimaryKeepalive{End: 0x1_02000060, Time: sent, Reply: true}, "6B 0000000102000060 0002ED4F6B1A4000 01"},
	{"StandbyStatusUpdate", &replication.StandbyStatusUpdate{Written: 0x60, Flushed: 0x58, Applied: 0x50, Time: sent},
		"72 0000000000000060 0000000000000058 0000000000000050 0002ED4F6B1A4000 00"},
	{"NewArchive", &replication.NewArchive{Name: "16385.tar", Path: "/srv/ä"}, "6E 31363338352E746172 00 2F7372762FC3A4 00"},
	{"NewArchive of the data directory", &replication.NewArchive{Name: "base.tar"}, "6E 626173652E746172 00 00"},
	{"ManifestStart", &replication.ManifestStart{}, "6D"},
	{"ArchiveData", &replication.ArchiveData{Data: []byte("tar")}, "64 746172"},
	{"BackupProgress", &replication.BackupProgress{Sent: 1 << 40}, "70 0000010000000000"},
}

func golden(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fresh is an empty message of the same type.
func fresh(m replication.Message) replication.Message {
	return reflect.New(reflect.TypeOf(m).Elem()).Interface().(replication.Message)
}

func TestMessages(t *testing.T) {
	for _, test := range messages {
		t.Run(test.name, func(t *testing.T) {
			want := golden(t, test.bytes)
			if got := test.message.Encode([]byte("before ")); !bytes.Equal(got, append([]byte("before "), want...)) {
				t.Errorf("encoded: got %x, want %x", got[len("before "):], want)
			}
			m := fresh(test.message)
			if err := m.Decode(want); err != nil || !reflect.DeepEqual(m, test.message) {
				t.Errorf("decoded: got %+v (%v), want %+v", m, err, test.message)
			}
			// A type that is another's, and every length that is too short, are refused.
			other := append([]byte{'?'}, want[1:]...)
			for _, b := range append(shorter(m, want), other) {
				var wrong *replication.FormatError
				if err := fresh(m).Decode(b); !errors.As(err, &wrong) {
					t.Errorf("%x: got %v, want a FormatError", b, err)
				}
			}
		})
	}
}

// shorter are the beginnings of a message that are too short to be one.
func shorter(m replication.Message, b []byte) (all [][]byte) {
	least := len(b)
	switch m.(type) {
	case *replication.XLogData:
		least = 25
	case *replication.ArchiveData:
		least = 1
	}
	for n := range least {
		all = append(all, b[:n])
	}
	return all
}

// Whatever can be decoded is the same when it was encoded and decoded again, and nothing makes Decode panic.
func FuzzDecode(f *testing.F) {
	for _, test := range messages {
		f.Add(golden(f, test.bytes))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decoded := 0
		for _, kind := range []replication.Message{
			&replication.XLogData{}, &replication.PrimaryKeepalive{}, &replication.StandbyStatusUpdate{}, &replication.NewArchive{},
			&replication.ManifestStart{}, &replication.ArchiveData{}, &replication.BackupProgress{},
		} {
			m := fresh(kind)
			if m.Decode(b) != nil {
				continue
			}
			decoded++
			again := fresh(kind)
			encoded := m.Encode(nil)
			if err := again.Decode(encoded); err != nil || !reflect.DeepEqual(m, again) {
				t.Errorf("%x: %+v became %x, and that %+v (%v)", b, m, encoded, again, err)
			}
			if len(encoded) != len(b) {
				t.Errorf("%x was read in part: %x", b, encoded)
			}
		}
		if decoded > 1 {
			t.Errorf("%x is %d messages", b, decoded)
		}
	})
}
