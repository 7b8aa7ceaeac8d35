package main_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"walkeep/common/cmdtest"
	"walkeep/common/sealed/sealedtest"
)

// keys makes a list of recipients and a private key that the servers' user can read, and gives the options that name them.
func (r *rig) keys() (encrypt, decrypt []string) {
	r.t.Helper()
	made := sealedtest.New(r.t)
	dir := filepath.Join(r.dir, "keys")
	r.mkdir(dir)
	for from, to := range map[string]string{made.Recipients: "recipients", made.Identity: "identity"} {
		content, err := os.ReadFile(from)
		r.must(err)
		r.must(os.WriteFile(filepath.Join(dir, to), content, 0o600))
	}
	r.give(dir)
	return []string{"--recipients-file", filepath.Join(dir, "recipients")}, []string{"--identity-file", filepath.Join(dir, "identity")}
}

// encrypting is the archive_command of a server whose WAL is encrypted.
func (r *rig) encrypting(options ...string) string {
	return fmt.Sprintf(`"%s" -c %s --spool "%s" %s %%p`, cmdtest.Path("archive-cmd"), os.DevNull, r.spool, strings.Join(options, " "))
}

// holding lists the files below a directory that hold a text, except for those below some directories.
func (r *rig) holding(dir, text string, except ...string) (found []string) {
	r.t.Helper()
	r.must(filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		for _, not := range except {
			if path == not {
				return fs.SkipDir
			}
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			found = append(found, path)
		}
		return err
	}))
	return found
}
