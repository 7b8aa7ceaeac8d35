package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/sealed/sealedtest"
)

// With a list of recipients segments are encrypted. What is wrong with keys stops nothing but this call, and is said in one line.
func TestRecipients(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	b := newBench(t, cmdtest.FastDir(t), files.Only(name))
	k := sealedtest.New(t)
	object := filepath.Join(string(b.spool), "wal", name[:16], name+".zst.age")

	b.run(t, name, "--recipients-file", filepath.Join(b.dir, "none")).Expect(t, 1, "read the list of recipients: open ", "none")
	wrong := filepath.Join(b.dir, "wrong")
	cmdtest.Write(t, wrong, []byte("age1nobody\n"))
	b.run(t, name, "--recipients-file", wrong).Expect(t, 1, "wrong, line 1: that is no public key of age", "hint: make a pair of keys with age-keygen")
	if _, err := os.Stat(filepath.Join(string(b.spool), "wal")); err == nil {
		t.Error("something was stored")
	}
	b.run(t, name, "--recipients-file", k.Recipients).Expect(t, 0)
	if _, err := os.Stat(object); err != nil {
		t.Error(err)
	}
	b.run(t, name, "--recipients-file", k.Recipients, "-v").Expect(t, 0, "was archived before")
	b.run(t, name).Expect(t, 1, "cannot be compared without the key for comparisons", "hint: ", "recipients-file")
	key := filepath.Join(filepath.Dir(k.Recipients), "compare-key")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	b.run(t, name, "--recipients-file", k.Recipients).Expect(t, 1, "cannot be compared without the key for comparisons", "hint: ", "compare-key")
}
