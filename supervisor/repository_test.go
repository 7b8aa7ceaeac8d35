package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/cmdtest"
	"walkeep/common/config"
	"walkeep/common/pgtest"
	"walkeep/common/wal"
	"walkeep/supervisor/repository"
)

// A far place is where a repository is.
type far struct {
	url  string
	keys string   // further lines of its section
	file string   // those that only a configuration file has
	env  []string // what a program without it needs to get there
}

// inDirectory makes a repository in a directory.
func inDirectory(r *rig) far {
	r.t.Helper()
	dir := filepath.Join(r.dir, "far")
	r.mkdir(dir)
	return far{url: cmdtest.FileURL(dir)}
}

// A site is a host: a spool and a configuration file that names the repository, or none of both.
type site struct {
	*rig
	far  far
	file string // empty: there is no configuration, and --repo-url names the repository
}

// site makes a host with a spool.
func (r *rig) site(name string, f far) *site {
	r.t.Helper()
	host := *r
	host.dir = filepath.Join(r.dir, name)
	host.spool = filepath.Join(host.dir, "spool")
	host.mkdir(host.dir)
	host.mkdir(host.spool)
	s := &site{&host, f, filepath.Join(host.dir, "walkeep.ini")}
	s.configure("")
	return s
}

// configure writes the configuration file, with further lines.
func (s *site) configure(lines string) {
	s.t.Helper()
	content := fmt.Sprintf("spool = %s\nspool-keep = 0\n%s[repository far]\nurl = %s\n%s%s", s.spool, lines, s.far.url, s.far.keys, s.far.file)
	s.must(os.WriteFile(s.file, []byte(content), 0o600))
	owner, err := account.OwnerOf(s.dir)
	s.must(err)
	s.must(owner.Give(s.file))
}

// attach opens a restored directory as a cluster that archives into the spool of this host with these options.
func (s *site) attach(dir string, options ...string) *pgtest.Cluster {
	s.t.Helper()
	c, err := pgtest.Open(dir)
	s.must(err)
	s.must(c.Configure(map[string]string{"wal_retrieve_retry_interval": "500ms"}))
	auto, err := os.OpenFile(c.Path("postgresql.auto.conf"), os.O_WRONLY|os.O_APPEND, 0) // which has what setup has set on the primary
	s.must(err)
	_, err = fmt.Fprintf(auto, "archive_command = '%s'\n", strings.NewReplacer("'", "''", `\`, `\\`).Replace(s.encrypting(options...)))
	s.must(errors.Join(err, auto.Close()))
	return pgtest.Attach(s.t, c)
}

// repository opens the repository in this process.
func (s *site) repository() *archive.Archive {
	s.t.Helper()
	c := config.Default()
	s.must(c.Load(s.file))
	one, err := repository.Open(s.ctx(), c.List[0])
	s.must(err)
	s.t.Cleanup(func() { one.Close() })
	return one.Archive
}

// pieces waits until the repository has all that a server has written of the segment that it is writing.
func (s *site) pieces(c *pgtest.Cluster) {
	s.t.Helper()
	text, err := c.QueryString(s.ctx(), "SELECT pg_current_wal_flush_lsn() || ' ' || pg_walfile_name(pg_current_wal_flush_lsn())")
	s.must(err)
	lsn, segment, _ := strings.Cut(text, " ")
	at, err := wal.ParseLSN(lsn)
	s.must(err)
	n, err := wal.ParseName(segment)
	s.must(err)
	a := s.repository()
	id, err := a.Identity(s.ctx())
	s.must(err)
	start, err := n.Start(id.SegmentSize)
	s.must(err)
	s.until("the repository to have what was streamed up to "+lsn, func() bool {
		length, err := a.Pieces(s.ctx(), n)
		return err == nil && start+wal.LSN(length) >= at
	})
}

// fresh is a host that has nothing but the URL of the repository.
func (r *rig) fresh(name string, f far) *site {
	r.t.Helper()
	host := *r
	host.dir = filepath.Join(r.dir, name)
	host.mkdir(host.dir)
	return &site{&host, f, ""}
}

func (s *site) command(args ...string) *exec.Cmd {
	options := []string{"-c", s.file}
	if s.file == "" {
		options = []string{"-c", os.DevNull, "--repo-url", s.far.url}
	}
	cmd := pgtest.Command(s.ctx(), cmdtest.Path("supervisor"), append(options, args...)...)
	cmd.Env = append(cmd.Environ(), s.far.env...)
	if s.file == "" {
		for line := range strings.Lines(s.far.keys) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
			cmd.Env = append(cmd.Env, "WALKEEP_REPO_"+strings.ToUpper(strings.ReplaceAll(key, "-", "_"))+"="+value)
		}
	}
	return cmd
}

// run calls supervisor, which must succeed, and returns its output and messages.
func (s *site) run(args ...string) string {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("supervisor %q on %s: %v\n%s", args, s.dir, err, out)
	}
	return string(out)
}

// says is run for a call that says some words.
func (s *site) says(words []string, args ...string) string {
	s.t.Helper()
	out := s.run(args...)
	for _, w := range words {
		if !strings.Contains(out, w) {
			s.t.Errorf("supervisor %q on %s does not say %q:\n%s", args, s.dir, w, out)
		}
	}
	return out
}

// Without anything but the URL of a repository its backups are listed, verified, tested and restored; with a spool, both are one
// archive; and what cannot be reached is said.
func TestRepositoryAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	primary := r.start("primary", nil)
	r.must(primary.Exec(r.ctx(), "CREATE TABLE elsewhere (n int)"))
	r.load(primary, 20, 1)
	r.backup(primary)
	want := r.sum(primary)
	_, err := primary.CreateRestorePoint(r.ctx(), "here")
	r.must(err)
	r.load(primary, 20, 2)
	r.cut(primary)
	latest := r.sum(primary)

	// The spool's content is that of the repository; near has another spool.
	f := inDirectory(r)
	r.must(pgtest.Command(r.ctx(), "cp", "-a", r.spool+"/.", filepath.Join(r.dir, "far")).Run())
	fresh, near := r.fresh("fresh", f), r.site("near", f)
	var listed struct {
		Backups  []struct{ ID string }
		Archives []struct {
			Name, URL, Error string
			Backups          []string
		}
	}
	printed := []byte(near.run("list", "--json"))
	fits(t, "report", printed)
	fits(t, "verify", []byte(near.run("verify", "--json")))
	r.must(json.Unmarshal(printed, &listed))
	if len(listed.Backups) != 1 || len(listed.Archives) != 2 || len(listed.Archives[1].Backups) != 1 || listed.Archives[1].Name != "far" || listed.Archives[0].Name != "spool" {
		t.Errorf("list: got %+v", listed)
	}
	fresh.says([]string{"ARCHIVES", f.url, "1 backup, WAL to"}, "list")
	near.says([]string{"the spool ", "nothing is archived in it", "repository far (" + f.url + ")", "all is well"}, "verify")
	fresh.says([]string{"all is well"}, "verify", "--deep")

	for name, test := range map[string]struct {
		on   *site
		args []string
		want string
	}{
		"latest, without a spool":   {fresh, nil, latest},
		"a target, without a spool": {fresh, []string{"--target-name", "here", "--target-action", "promote"}, want},
		"latest, with a spool":      {near, nil, latest},
	} {
		t.Run(name, func(t *testing.T) {
			s := &site{test.on.in(t), f, test.on.file}
			dir := filepath.Join(s.dir, strings.ReplaceAll(name, " ", "-"))
			s.run(append([]string{"restore", "--target-dir", dir}, test.args...)...)
			_, err := os.Stat(dir + ".walkeep")
			if made := err == nil; made != (s.file == "") {
				t.Errorf("a directory beside the data: %v", err)
			}
			c := s.open(dir)
			c.Env = f.env
			s.opens(c, test.want)
			s.must(c.Stop(s.ctx(), pgtest.Fast))
		})
	}
}

// Root restores for the server's user, who gets what the server fetches its WAL with.
func TestRepositoryAsRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to another user")
	}
	t.Parallel()
	r := newRig(t, restoreMajor)
	f := inDirectory(r)
	near, fresh := r.site("near", f), r.fresh("fresh", f)
	primary := near.start("primary", nil)
	near.must(primary.Exec(near.ctx(), "CREATE TABLE elsewhere (n int)"))
	near.run("backup", "--conninfo", primary.ConnString())
	near.load(primary, 10, 1)
	near.cut(primary)
	near.run("ship")
	want := near.sum(primary)
	dir := filepath.Join(fresh.dir, "data")
	fresh.mkdir(dir)
	cmd := cmdtest.Command("supervisor", "-c", os.DevNull, "--repo-url", f.url, "restore", "--target-dir", dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	fresh.opens(fresh.open(dir), want)
}

// A repository that cannot be reached is a warning for those who can do without it, and never makes something count as missing.
func TestRepositoryDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	f := inDirectory(r)
	near := r.site("near", f)
	out, err := near.command("check").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "hint: archive-cmd makes the archive when the server archives its first segment") {
		t.Errorf("check while nothing is archived: %v\n%s", err, out)
	}
	primary := near.start("primary", nil)
	near.must(primary.Exec(near.ctx(), "CREATE TABLE elsewhere (n int)"))
	near.run("backup", "--conninfo", primary.ConnString())
	near.cut(primary)
	near.run("ship") // all but histories leaves the spool
	far := filepath.Join(r.dir, "far")
	near.must(exec.Command("cp", "-a", far, far+"-older").Run())
	near.load(primary, 10, 1)
	near.cut(primary)
	near.run("check")

	near.must(os.Rename(far, far+"-away"))
	dir := filepath.Join(near.dir, "data")
	out, err = near.command("list").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CANNOT BE REACHED") {
		t.Errorf("list: %v\n%s", err, out)
	}
	for words, args := range map[string][]string{
		"(WARNING|CRITICAL): .*repository far .* cannot be reached":        {"check"},
		"warning: repository far .* cannot be reached.*what only that has": {"restore", "--target-dir", dir},
		"open repository far":                 {"backup", "--conninfo", primary.ConnString()},
		"repository far .* cannot be reached": {"verify"},
	} {
		out, err := near.command(args...).CombinedOutput()
		if err == nil || !regexp.MustCompile(words).Match(out) {
			t.Errorf("%q: %v, want an error with %q\n%s", args, err, words, out)
		}
	}

	near.must(os.Rename(far+"-away", far))
	near.run("ship")

	// The repository is put back from an older copy, which lacks WAL that has left the spool.
	near.must(errors.Join(os.Rename(far, far+"-away"), os.Rename(far+"-older", far)))
	for words, args := range map[string][]string{
		"CRITICAL: timeline 1 can be recovered only up to": {"check"},
		"repository far has held its WAL up to":            {"restore", "--target-dir", dir},
	} {
		out, err := near.command(args...).CombinedOutput()
		if err == nil || !regexp.MustCompile(words).Match(out) {
			t.Errorf("%q: %v, want an error with %q\n%s", args, err, words, out)
		}
	}
	near.must(errors.Join(os.Rename(far, far+"-older"), os.Rename(far+"-away", far)))

	// The spool is gone, and the repository is there.
	near.must(os.Rename(near.spool, near.spool+"-away"))
	out, err = near.command("check").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "CRITICAL: the spool "+near.spool+" cannot be reached") {
		t.Errorf("check without the spool: %v\n%s", err, out)
	}
	near.says([]string{"CANNOT BE REACHED", "1 backup, WAL to"}, "list")
	want := near.sum(primary)
	dir = filepath.Join(near.dir, "without-spool")
	near.says([]string{"the repositories are used without it", "by way of " + dir + ".walkeep"}, "restore", "--target-dir", dir)
	near.opens(near.open(dir), want)
}

// A standby whose host has nothing but the URL keeps the WAL in the repository that it needs, and no more.
func TestRepositoryStandbyNote(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	f := inDirectory(r)
	near, fresh := r.site("near", f), r.fresh("fresh", f)
	primary := near.start("primary", nil)
	near.must(primary.Exec(near.ctx(), "CREATE TABLE elsewhere (n int)"))
	near.run("backup", "--conninfo", primary.ConnString())
	dir := filepath.Join(fresh.dir, "standby")
	out := fresh.says([]string{"--config " + dir + ".walkeep/walkeep.ini promote"}, "restore", "--standby", "--target-dir", dir)
	var listed struct {
		Standbys []struct{ Restartpoint string }
	}
	note := func() string {
		t.Helper()
		fresh.must(json.Unmarshal([]byte(fresh.run("list", "--json")), &listed))
		if len(listed.Standbys) != 1 {
			t.Fatalf("standbys: %+v\n%s", listed, out)
		}
		return listed.Standbys[0].Restartpoint
	}
	first := note()
	standby, err := pgtest.Open(dir)
	fresh.must(err)
	fresh.must(standby.Configure(map[string]string{"wal_retrieve_retry_interval": "500ms", "archive_mode": "off"}))
	pgtest.Attach(t, standby)
	fresh.must(standby.Start(fresh.ctx()))
	near.runs("")
	for i := range 3 {
		near.load(primary, 10, uint64(i))
		near.must(primary.Checkpoint(near.ctx()))
		fresh.follows(standby, primary)
		fresh.must(standby.Checkpoint(fresh.ctx())) // a restartpoint
	}
	fresh.until("the restartpoint to be noted in the repository", func() bool {
		near.cut(primary)
		return note() > first
	})
}

// The schedule of the section [walkeep] takes backups into the first repository, that of another one into that.
func TestRepositorySchedules(t *testing.T) {
	t.Parallel()
	r := newRig(t, restoreMajor)
	f := inDirectory(r)
	second := filepath.Join(r.dir, "second")
	r.mkdir(second)
	f.file = "[repository second]\nurl = file://" + second + "\nbackup-schedule = @yearly\n"
	near := r.site("near", f)
	primary := near.start("primary", nil)
	near.runs("backup-schedule = @yearly\nconninfo = " + primary.ConnString() + "\n")
	var listed struct {
		Archives []struct {
			Name    string
			Backups []string
		}
	}
	var out string
	near.until("a backup in each repository", func() bool {
		text, err := near.command("list", "--json").Output()
		if out = string(text); err != nil || json.Unmarshal(text, &listed) != nil {
			return false
		}
		return len(listed.Archives) == 3 && len(listed.Archives[1].Backups) == 1 && len(listed.Archives[2].Backups) == 1
	})
	if len(listed.Archives[0].Backups) != 0 {
		t.Errorf("the spool has a backup: %s", out)
	}
}

// What package net/http logs of a server's behaviour is no message of the program.
func TestStoreThatTalksOnItsOwn(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !r.URL.Query().Has("list-type") {
			http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
			return
		}
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		const page = "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%sHTTP/1.1 400 Bad Request\r\n\r\n", len(page), page)
	}))
	defer server.Close()
	cmd := cmdtest.Command("supervisor", "-c", os.DevNull, "--repo-url", "s3://bucket", "list")
	cmd.Env = append(cmd.Env, "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any", "WALKEEP_REPO_ENDPOINT="+server.URL, "WALKEEP_REPO_CACHE_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil || strings.Contains(string(out), "Unsolicited response") || !strings.HasPrefix(string(out), "supervisor: ") {
		t.Errorf("%v: %s", err, out)
	}
}
