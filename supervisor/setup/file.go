package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"walkeep/common/account"
	"walkeep/common/config"
	"walkeep/common/conninfo"
	"walkeep/common/durable"
)

// A file is the configuration file that setup writes.
type file struct {
	path  string
	role  string // the role that connects; empty: anyone
	lines []line
}

// recipientsFile is the key of the list of recipients.
const recipientsFile = "recipients-file"

type line struct{ key, value string }

// configuration returns the configuration file for this setup.
func (s *setup) configuration() (file, error) {
	f := file{path: s.File, role: s.Role}
	given, err := conninfo.Parse(s.Conninfo)
	if err != nil {
		return f, err
	}
	known, secret := append(conninfo.FromEnvironment(), given...).WithoutPasswords()
	if secret {
		s.notice("put it into the password file (~/.pgpass) of the user who runs walkeep",
			"the password in conninfo is not written to %s", s.File)
	}
	if s.Role != "" {
		known = known.With("user", s.Role)
	}
	f.lines = append(f.lines, line{"spool", s.Spool})
	if len(known) > 0 {
		f.lines = append(f.lines, line{"conninfo", known.String()})
	}
	// What is streamed is not encrypted before the segment is complete, which only the user can accept.
	f.lines = append(f.lines, line{"pgdata", s.data}, line{"slot", s.Slot}, line{"stream", truth(s.Recipients == "")})
	if s.Recipients != "" {
		f.lines = append(f.lines, line{recipientsFile, s.Recipients})
	}
	if s.Synchronous {
		f.lines = append(f.lines, line{"synchronous", "true"})
	}
	if s.FlushInterval != config.Default().FlushInterval {
		f.lines = append(f.lines, line{"flush-interval", s.FlushInterval.String()})
	}
	return f, nil
}

func (f file) content() []byte {
	var b strings.Builder
	b.WriteString("# Written by walkeep setup.\n")
	for _, l := range f.lines {
		b.WriteString(config.Line(l.key, l.value) + "\n")
	}
	return []byte(b.String())
}

func sum(content []byte) string {
	h := sha256.Sum256(content)
	return hex.EncodeToString(h[:])
}

// missing lists the lines that an existing file lacks, and those for which it has another value.
func (f file) missing() (lacks, differs []string, err error) {
	c, keys, err := config.ReadFile(f.path)
	if err != nil {
		return nil, nil, err
	}
	have := map[string]string{"spool": c.Spool, "pgdata": c.PGData, "slot": c.Slot, "flush-interval": c.FlushInterval.String(), recipientsFile: c.RecipientsFile}
	have["stream"], have["synchronous"] = truth(c.Streaming), truth(c.Stream.Synchronous)
	for _, l := range f.lines {
		switch {
		case !keys[l.key]:
			lacks = append(lacks, config.Line(l.key, l.value))
		case l.key == "conninfo": // one connection can be written in many ways
			if !connectsAs(c.Conninfo, f.role) {
				differs = append(differs, config.Line(l.key, l.value))
			}
		case have[l.key] != l.value:
			differs = append(differs, config.Line(l.key, l.value))
		}
	}
	return lacks, differs, nil
}

func connectsAs(text, role string) bool {
	c, err := conninfo.Parse(text)
	user := conninfo.Keyword{Name: "user", Value: role}
	return err != nil || role == "" || slices.Contains(c, user)
}

func truth(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// make writes the file, unless it exists by now.
func (f file) make(user account.Account) error {
	n, err := durable.Create(f.path)
	if err != nil {
		return err
	}
	defer n.Discard()
	if _, err := n.Write(f.content()); err != nil {
		return err
	}
	if err := user.GiveFile(n.File); err != nil {
		return err
	}
	if err := user.Protect(n.File.Name()); err != nil {
		return err
	}
	return n.Commit(nil)
}

// remove removes a file that setup has made, and the temporary files of a setup that was killed. It keeps a file that
// was changed since.
func (n notedFile) remove() error {
	dir, base := filepath.Split(n.Path)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+base+".") && durable.IsTemp(e.Name()) {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	if !n.unchanged() {
		return nil
	}
	return removeFile(n.Path)
}

func (n notedFile) unchanged() bool {
	content, err := os.ReadFile(n.Path)
	return err == nil && sum(content) == n.SHA256
}
