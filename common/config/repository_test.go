package config_test

import (
	"strings"
	"testing"
	"time"

	"walkeep/common/config"
)

const two = `[repository near]
url = file:///srv/near
keep-backups = 3

[walkeep]
spool = /s
keep-days = 7

[repository far-away_2]
url = s3://bucket/a/prefix
endpoint = https://s3.example.org:9000
region = eu-1
style = path
storage-class = STANDARD_IA
object-lock = governance
object-lock-days = 30
delete-grace = 48h
`

func TestRepositories(t *testing.T) {
	file := clean(t, two)
	c, _, err := parse("PATH", "-c", file)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.List) != 2 || c.Chosen() != nil || c.Spool != "/s" || c.KeepDays != 7 {
		t.Fatalf("got %+v", c)
	}
	near, far := c.List[0], c.List[1]
	if near.Name != "near" || near.Kind() != "file" || near.KeepBackups != 3 || near.KeepDays != -1 || near.DeleteGrace != 24*time.Hour {
		t.Errorf("got %+v", near)
	}
	if far.Name != "far-away_2" || far.Kind() != "s3" || far.Style != "path" || far.ObjectLockDays != 30 || far.DeleteGrace != 48*time.Hour {
		t.Errorf("got %+v", far)
	}
	if c, _, err = parse("PATH", "-c", file, "--repo", "near"); err != nil || len(c.Chosen()) != 1 || c.Chosen()[0] != near {
		t.Errorf("--repo near chooses %+v, %v", c.Chosen(), err)
	}
}

// A repository that stands in no file needs no spool, and its keys come from the environment.
func TestRepositoryByURL(t *testing.T) {
	for name, args := range map[string][]string{
		"option":      {"PATH", "--repo-url", "s3://bucket/prefix"},
		"environment": {"PATH"},
		"over a file": {"PATH", "--repo-url=s3://bucket/prefix", "-c", ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := clean(t, two)
			t.Setenv("WALKEEP_REPO_ENDPOINT", "https://s3.example.org")
			if name == "environment" {
				t.Setenv("WALKEEP_REPO_URL", "s3://bucket/prefix")
			}
			if args[len(args)-1] == "" {
				args[len(args)-1] = file
			}
			c, _, err := parse(args...)
			if err != nil {
				t.Fatal(err)
			}
			chosen := c.Chosen()
			if len(chosen) != 1 || len(c.List) != 1 || chosen[0].URL != "s3://bucket/prefix" || chosen[0].Endpoint != "https://s3.example.org" {
				t.Errorf("got %+v", c.Repos)
			}
		})
	}
}

// A variable of no key is refused, or is a problem for those who go on without it.
func TestRepositoryVariables(t *testing.T) {
	file := clean(t, two)
	t.Setenv("WALKEEP_REPO_ENDPIONT", "https://s3.example.org")
	t.Setenv("WALKEEP_REPO_REGION", "")
	const want = "unknown environment variable: WALKEEP_REPO_ENDPIONT"
	if _, _, err := parse("PATH", "-c", file); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if got := config.Problems(file); len(got) != 1 || got[0] != want {
		t.Errorf("got %q, want %s", got, want)
	}
	text := "set key-file, or the region; the credentials have expired (no-fsync)"
	if got := strings.Join(config.Variables(text), " "); got != "WALKEEP_REPO_REGION WALKEEP_REPO_KEY_FILE WALKEEP_REPO_NO_FSYNC" {
		t.Errorf("got %s", got)
	}
}

func TestRepositoryErrors(t *testing.T) {
	for _, test := range []struct{ name, content, want string }{
		{"no name", "[repository]\nurl = file:///a\n", "line 1: [repository]: the section of a repository is"},
		{"odd name", "[repository a/b]\n", "line 1: [repository a/b]: the section of a repository is"},
		{"twice", "[repository a]\nurl = file:///a\n[repository a]\n", "line 3: [repository a] is given twice"},
		{"unknown key", "spool = /s\n[repository a]\nurl = file:///a\nendpiont = x\n", "line 4: unknown option: endpiont"},
		{"a key of the other section", "[repository a]\nurl = file:///a\nspool = /s\n", "line 3: unknown option: spool"},
		{"a key twice", "[repository a]\nurl = file:///a\nurl = file:///b\n", "line 3: url is given again, after line 2"},
		{"a value", "[repository a]\nurl = file:///a\ndelete-grace = 5\n", "line 3: delete-grace: time: missing unit"},
		{"no url", "[repository a]\n", "repository a: url is missing"},
		{"a password", "[repository a]\nurl = sftp://me:secret@host/x\n", "repository a: url holds a password"},
		{"a password that cannot be read", "[repository a]\nurl = sftp://me:secret%zz@host/x\n", "repository a: url is none"},
		{"another scheme", "[repository a]\nurl = ftp://host/x\n", `repository a: url begins with s3://, sftp:// or file://, not with "ftp"`},
		{"a relative directory", "[repository a]\nurl = file://a/b\n", "repository a: url of a directory is file:///dir"},
		{"no bucket", "[repository a]\nurl = s3:///a\n", "repository a: url of S3 is s3://bucket/prefix"},
		{"a key of another kind", "[repository a]\nurl = file:///a\nregion = x\n", "repository a: region has no effect on a repository whose url begins with file://"},
		{"half a lock", "[repository a]\nurl = s3://b\nobject-lock = governance\n", "repository a: object-lock and object-lock-days are given together"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := parse("PATH", "--spool=/s", "-c", clean(t, test.content))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v, want %s", err, test.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
	for _, args := range [][]string{{"--repo", "none"}, {"--repo", "near", "--repo-url", "file:///x"}} {
		if _, _, err := parse(append(args, "PATH", "-c", clean(t, two))...); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

// A program that PostgreSQL calls gets a repository even if its section cannot be read, because it must not conclude that there
// is no repository.
func TestBrokenRepositoryIsOne(t *testing.T) {
	file := clean(t, "spool = /s\n[repository a]\nurl = file:///a\nnonsense = 1\n")
	var problems []string
	c, err := config.Command{Name: "test-cmd", Tolerant: true, Warn: func(p string) { problems = append(problems, p) }}.Parse([]string{"-c", file}, nil)
	if err != nil || len(c.List) != 1 || len(problems) != 1 || !strings.Contains(problems[0], "line 4: unknown option: nonsense") {
		t.Errorf("got %+v, %q, %v", c.List, problems, err)
	}
}
