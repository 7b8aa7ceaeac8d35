package main_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/archive/archivetest"
	"walkeep/common/cmdtest"
	"walkeep/common/sealed/sealedtest"
	"walkeep/common/storage/local"
)

// An encrypted segment is delivered with the private key. Without it the answer is never "absent".
func TestIdentity(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	name := files.Segments()[0]
	dir := cmdtest.FastDir(t)
	data, spool := cmdtest.NewDataDir(t, dir, files.Only(name)), cmdtest.NewSpool(t, dir)
	k := sealedtest.New(t)
	b, err := local.Open(string(spool))
	if err != nil {
		t.Fatal(err)
	}
	o := archivetest.Options(t, "zstd")
	o.Recipients, o.CompareKey = k.To(t), k.Compare(t)
	if _, err := archive.New(b).NewPusher(o).Push(t.Context(), data.Path("pg_wal", name)); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(dir, "target")
	call := func(more ...string) cmdtest.Result {
		cmd := cmdtest.Command("restore-cmd", append(append([]string{"--spool", string(spool)}, more...), name, target)...)
		cmd.Dir = string(data)
		return cmdtest.Run(t, cmd)
	}
	call().Expect(t, 126, "it is encrypted, and no private key is given", "hint: name the file of the private key: identity-file")
	call("--identity-file", sealedtest.New(t).Identity).Expect(t, 126, "no private key that is given opens it")
	call("--identity-file", filepath.Join(dir, "none")).Expect(t, 126, "read the private key: open ")
	call("--identity-passphrase-file", target).Expect(t, 126, "identity-passphrase-file is given without identity-file")
	call("--identity-file", k.Identity).Expect(t, 0)
	if got, err := os.ReadFile(target); err != nil || !bytes.Equal(got, files[name]) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}
