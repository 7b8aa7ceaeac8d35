package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// document makes the manual pages and the systemd units, from what the programs print.
func (r *release) document() error {
	pages := filepath.Join(r.work, "man")
	if err := os.MkdirAll(pages, 0o755); err != nil {
		return err
	}
	bin := r.bin(system{"linux", "amd64"})
	page := func(title string, help []byte) error {
		text := manual(title, r.version, r.made.Format("2006-01-02"), string(help))
		return os.WriteFile(filepath.Join(pages, title+".1"), []byte(text), 0o644)
	}
	for _, p := range programs {
		help, err := exec.Command(filepath.Join(bin, p), "--help").Output()
		if err != nil {
			return fmt.Errorf("%s --help: %w", p, err)
		}
		title := p
		if p == "supervisor" {
			title = "walkeep"
			for _, command := range commands(help) {
				help, err := exec.Command(filepath.Join(bin, p), command, "--help").Output()
				if err != nil {
					return fmt.Errorf("%s %s --help: %w", p, command, err)
				}
				if err := page("walkeep-"+command, bytes.ReplaceAll(help, []byte("  supervisor "), []byte("  walkeep "))); err != nil {
					return err
				}
			}
			help = bytes.ReplaceAll(help, []byte("  supervisor "), []byte("  walkeep "))
		}
		if err := page(title, help); err != nil {
			return err
		}
	}
	for name, unit := range map[string][2]string{
		"walkeep.service":  {"/etc/walkeep/walkeep.ini", "/var/lib/walkeep"},
		"walkeep@.service": {"/etc/walkeep/%i.ini", "/var/lib/walkeep/%i"},
	} {
		if err := r.unit(name, unit[0], unit[1]); err != nil {
			return err
		}
	}
	return nil
}

// commands are the names of the commands that a help lists.
func commands(help []byte) []string {
	_, list, _ := strings.Cut(string(help), "\nAvailable commands:\n")
	var names []string
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) > 0 {
			names = append(names, fields[0])
		}
	}
	return names
}

var heading = regexp.MustCompile(`^[A-Z][A-Za-z \[\]-]*:$`)

// manual makes a manual page of a help text, whose lines stay as they are.
func manual(title, version, date, help string) string {
	quote := strings.NewReplacer(`\`, `\e`, "-", `\-`)
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %s 1 %q \"walkeep %s\"\n.SH NAME\n%s \\- part of walkeep, WAL archiving and recovery for PostgreSQL\n", strings.ToUpper(quote.Replace(title)), date, version, quote.Replace(title))
	b.WriteString(".SH SYNOPSIS\n.nf\n")
	about := false // the text behind the synopsis has begun
	for line := range strings.Lines(help) {
		line = strings.TrimRight(line, "\n")
		switch {
		case line == "Usage:":
			continue
		case heading.MatchString(line) && !strings.HasPrefix(line, "Exit codes"):
			fmt.Fprintf(&b, ".fi\n.SH %s\n.nf\n", strings.ToUpper(quote.Replace(strings.TrimSuffix(line, ":"))))
			about = true
			continue
		case !about && line != "" && !strings.HasPrefix(line, " "):
			b.WriteString(".fi\n.SH DESCRIPTION\n.nf\n")
			about = true
		}
		if line = quote.Replace(line); strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			line = `\&` + line
		}
		b.WriteString(line + "\n")
	}
	b.WriteString(".fi\n.SH SEE ALSO\nThe pages in /usr/share/doc/walkeep.\n")
	return b.String()
}

// unit writes a systemd unit as the command service install does, for programs that a package has installed.
func (r *release) unit(name, file, spool string) error {
	ini := filepath.Join(r.work, "unit.ini")
	if err := os.WriteFile(ini, []byte("spool = "+spool+"\nstream = true\nconninfo = host=/var/run/postgresql\n"), 0o644); err != nil {
		return err
	}
	program := filepath.Join(r.bin(system{"linux", "amd64"}), "supervisor")
	out, err := exec.Command(program, "service", "install", "--dry-run", "--config", ini).Output()
	if err != nil {
		return fmt.Errorf("supervisor service install --dry-run: %w", err)
	}
	text := strings.NewReplacer(program, "/usr/lib/walkeep/supervisor", ini, file, "%%i", "%i",
		"# Written by supervisor service install.", "# Part of the package walkeep.").Replace(string(out))
	if strings.Contains(text, r.work) {
		return fmt.Errorf("%s names a file of this build:\n%s", name, text)
	}
	return os.WriteFile(filepath.Join(r.work, name), []byte(text), 0o644)
}
