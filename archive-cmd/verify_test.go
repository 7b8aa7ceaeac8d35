package main_test

import (
	"strings"
	"testing"

	"walkeep/common/cmdtest"
)

// TestBrokenRecord archives a segment that the database itself has damaged.
func TestBrokenRecord(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	broken := cmdtest.Files{name: cmdtest.Break(t, files[name])}
	archived := []string{"warning: " + name + " is archived with broken WAL records: record with a wrong checksum at 0/", "hint: the archived copy is as broken as the original"}
	tests := []struct {
		name string
		args []string
		code int
		say  []string
		want byte // what is noted in the object
	}{
		{"by default", nil, 0, archived, cmdtest.Damaged},
		{"warn", []string{"--verify", "warn"}, 0, archived, cmdtest.Damaged},
		{"warn quietly", []string{"--verify", "warn", "-q"}, 0, nil, cmdtest.Damaged},
		{"off", []string{"--verify", "off"}, 0, nil, cmdtest.NotChecked},
		{"strict", []string{"--verify", "strict"}, 3, []string{"WAL records are broken", "hint: take a new base backup"}, 0},
		{"strict quietly", []string{"--verify", "strict", "-q"}, 3, []string{"WAL records are broken"}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, cmdtest.FastDir(t), broken)
			for range 2 { // the second time it is there already
				r := b.run(t, name, test.args...)
				r.Expect(t, test.code, test.say...)
				if test.code == 0 {
					test.say = nil
				}
			}
			if test.code != 0 {
				b.spool.Check(t, nil)
				return
			}
			b.spool.Check(t, broken)
			if got := b.spool.Object(t, name).WALCheck(); got != test.want {
				t.Errorf("WAL check %d, want %d", got, test.want)
			}
		})
	}
}

// TestHeaderIsAlwaysChecked holds that --verify off does not let a wrong file in.
func TestHeaderIsAlwaysChecked(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	names := files.Segments()
	b := newBench(t, cmdtest.FastDir(t), cmdtest.Files{
		names[0]: files[names[1]],
		names[1]: files[names[1]][:8192],
	})
	for _, name := range names[:2] {
		b.run(t, name, "--verify", "off").Expect(t, 3, "not a WAL file of its name", hintNotWAL)
	}
	b.spool.Check(t, nil)
}

// TestMessagesAreLines holds that a file's name cannot forge lines in the server's log.
func TestMessagesAreLines(t *testing.T) {
	t.Parallel()
	b := newBench(t, cmdtest.FastDir(t), nil)
	r := b.run(t, "a\nLOG: all is well\r\x1b[2J")
	r.Expect(t, 3)
	if n := strings.Count(r.Stderr, "\n"); n != 2 || strings.ContainsAny(r.Stderr, "\r\x1b") {
		t.Errorf("got %d lines, want 2: %q", n, r.Stderr)
	}
}
