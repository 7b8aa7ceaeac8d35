package replication_test

import (
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
)

// Whatever a server sends in answer to BASE_BACKUP and START_REPLICATION, the client comes to an end without a panic: with an
// error, or because all was understood.
func FuzzAnswer(f *testing.F) {
	for _, major := range []string{"12", "14", "19"} {
		_, answers := readRecording(f, filepath.Join("testdata", "recorded", major+".txt"))
		for _, a := range answers {
			if strings.HasPrefix(a.command, "BASE_BACKUP") || strings.HasPrefix(a.command, "START_REPLICATION") {
				f.Add(major >= "15", strings.HasPrefix(a.command, "BASE_BACKUP"), a.bytes)
			}
		}
	}
	var mu sync.Mutex
	var bytes []byte
	servers := map[bool]*replicationtest.Server{false: {Version: "14.0"}, true: {Version: "19.0"}}
	for _, s := range servers {
		s.Command = func(s *replicationtest.Session, command string) {
			if strings.HasPrefix(command, "SHOW") {
				s.Rows([]any{"0"})
				return
			}
			mu.Lock()
			b := bytes
			mu.Unlock()
			s.Raw(b)
			s.Ready()
			s.HangUp()
		}
		s.Start(f)
	}
	f.Fuzz(func(t *testing.T, modern, backup bool, b []byte) {
		mu.Lock()
		bytes = b
		mu.Unlock()
		c, err := replication.Connect(t.Context(), servers[modern].Conninfo(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Abort()
		if !backup {
			if next, err := c.StartPhysical(t.Context(), "walkeep", replication.Position{Timeline: 1, LSN: 1 << 24}); next != nil || err != nil {
				return
			}
			for err == nil {
				_, err = c.Receive()
			}
			return
		}
		taken, err := c.BaseBackup(replication.BackupOptions{Label: "walkeep"})
		for err == nil {
			if _, err = taken.Next(); err == nil {
				_, err = io.Copy(io.Discard, taken)
			}
		}
		if err == io.EOF && (taken.End.LSN == 0 && taken.End.Timeline == 0 || taken.Start.Timeline == 0) {
			t.Errorf("a backup without an end, or without a beginning: %+v", taken)
		}
	})
}
