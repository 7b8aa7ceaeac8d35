package main_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/pgtest"
)

// What docs/windows.md says to call is called, in its order, with the paths of this host; the settings of its postgresql.conf are set.
// Commands of PowerShell and of Windows itself are left out: wine does not have them.
func TestPageOnWindows(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, major int) {
		r := newShortRig(t, major)
		data := filepath.Join(r.dir, "Program Data")
		home := filepath.Join(data, "walkeep")
		r.mkdir(data)
		r.mkdir(home)
		r.spool = filepath.Join(home, "spool")
		primary := pgtest.New(t, pgtest.Options{Major: major, Dir: filepath.Join(r.dir, "primary"), SegmentSizeMB: 1, Settings: map[string]string{"archive_mode": "on"}})
		restored := filepath.Join(r.dir, "restored")

		page, err := os.ReadFile("../docs/windows.md")
		r.must(err)
		bin := filepath.Dir(cmdtest.Path("supervisor"))
		double := func(path string) string { return strings.ReplaceAll(path, `\`, `\\`) }
		here := strings.NewReplacer(
			`C:\Program Files\walkeep`, bin, `C:\\Program Files\\walkeep`, double(bin),
			`C:\ProgramData\walkeep`, home, `C:\\ProgramData\\walkeep`, double(home),
			`C:\Program Files\PostgreSQL\15\data`, restored,
			"host=127.0.0.1 user=postgres", primary.ConnString())
		var settings, lines []string
		for _, line := range regexp.MustCompile(`(?m)^    (.*)$`).FindAllStringSubmatch(string(page), -1) {
			switch first, _, _ := strings.Cut(line[1], " "); {
			case first == "supervisor":
				lines = append(lines, line[1])
			case strings.HasSuffix(first, "_command"):
				settings = append(settings, here.Replace(line[1])+"\n")
			case strings.Contains(line[1], " = "): // of walkeep.ini
			case !slices.Contains([]string{"Expand-Archive", "mkdir", "icacls", "Restart-Service"}, first) && !strings.HasPrefix(first, "$env:"):
				t.Errorf("the page says to call what is not known here: %s", line[1])
			}
		}
		add := func(file, line string) {
			f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
			r.must(err)
			defer f.Close()
			_, err = f.WriteString(line)
			r.must(err)
		}
		if len(settings) != 2 {
			t.Fatalf("the page has the settings %q", settings)
		}
		add(primary.Path("postgresql.conf"), settings[0])
		r.must(primary.Start(r.ctx()))
		r.must(primary.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
		r.load(primary, 10, 1)

		var want, at string
		word := regexp.MustCompile(`"[^"]*"|\S+`)
		uninstallService(t)
		t.Cleanup(func() { uninstallService(t) })
		for _, line := range lines {
			if strings.HasPrefix(line, "supervisor restore ") {
				want = r.sum(primary)
				at, err = primary.QueryString(r.ctx(), "SELECT now()")
				r.must(err)
				r.load(primary, 10, 3)
				r.cut(primary)
				line = regexp.MustCompile(`--target-time "[^"]*"`).ReplaceAllLiteralString(line, `--target-time "`+at+`"`)
			}
			var args []string
			for _, w := range word.FindAllString(line, -1)[1:] {
				args = append(args, here.Replace(strings.Trim(w, `"`)))
			}
			cmd := pgtest.Command(context.WithoutCancel(r.ctx()), cmdtest.Path("supervisor"), args...)
			cmd.Env = append(cmd.Environ(), "ProgramData="+data)
			out, err := cmd.CombinedOutput()
			t.Logf("%s: %v\n%s", line, err, out)
			r.must(err)
			r.load(primary, 5, 2)
		}
		if want == "" {
			t.Fatal("the page restores nothing")
		}
		r.must(primary.Exec(r.ctx(), "ALTER SYSTEM RESET archive_command")) // which leaves the page's
		r.must(primary.Reload(r.ctx()))
		r.must(primary.WaitFor(r.ctx(), pgtest.Timeout, "the archive_command of the page", func(ctx context.Context) (bool, error) {
			s, err := primary.QueryString(ctx, "SHOW archive_command")
			return !strings.Contains(s, "--config"), err
		}))
		r.cut(primary)
		c, err := pgtest.Open(restored)
		r.must(err)
		r.silent(c)
		add(c.Path("postgresql.auto.conf"), settings[1])
		r.opens(pgtest.Attach(t, c), want)
	}, 15)
}
