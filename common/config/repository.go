package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jessevdk/go-flags"
)

// Repos are the archives at other places, and which of them a command works on.
type Repos struct {
	Repo    string `long:"repo" value-name:"NAME" no-ini:"true" description:"work on this repository alone, by its name in the configuration file (else on the spool and all repositories)"`
	RepoURL string `long:"repo-url" value-name:"URL" no-ini:"true" description:"work on the repository at this place alone, such as s3://bucket/prefix, sftp://user@host/path or file:///dir; its other keys are taken from the environment (WALKEEP_REPO_...)"`
	// List are the repositories: those of the file, in its order, or the one of RepoURL.
	List []Repository `no-flag:"true" no-ini:"true"`
	// Unread is why the file, which may name repositories, could not be read, or a line of it that may name one; nil if List has
	// all of them.
	Unread error `no-flag:"true" no-ini:"true"`
}

// A Repository is one section [repository NAME]. The environment variables WALKEEP_REPO_URL and the like describe one
// that stands in no file.
type Repository struct {
	Name string `no-flag:"true" no-ini:"true"`
	URL  string `long:"url"` // s3://bucket/prefix, sftp://user@host:port/path or file:///dir
	// Wrong is why the section cannot be used, for a command that goes on without the repository; nil if it can.
	Wrong error `no-flag:"true" no-ini:"true"`

	// All kinds.
	KeepBackups    int           `long:"keep-backups"`    // as in Retention; -1: as in the section [walkeep]
	KeepDays       int           `long:"keep-days"`       // as in Retention; -1: as in the section [walkeep]
	DeleteGrace    time.Duration `long:"delete-grace"`    // how long cleanup keeps what it has marked for removal
	BackupSchedule string        `long:"backup-schedule"` // beside that of the section [walkeep], whose backups go to the first repository
	Timeout        time.Duration `long:"timeout"`         // after which a request without progress has failed
	CacheDir       string        `long:"cache-dir"`       // where manifests of backups are kept, which never change; empty: in the user's cache directory

	// S3.
	Endpoint        string `long:"endpoint"`         // URL of the service; empty: AWS
	Region          string `long:"region"`           // empty: asked for, or us-east-1
	Style           string `long:"style"`            // auto, path or virtual: where the bucket's name is put
	CAFile          string `long:"ca-file"`          // certificates that the service is trusted by, in PEM
	Credentials     string `long:"credentials"`      // auto, file, environment, profile, instance or web-identity
	CredentialsFile string `long:"credentials-file"` // for file and profile
	Profile         string `long:"profile"`          // in the shared credentials file
	StorageClass    string `long:"storage-class"`    // of WAL and backups
	ObjectLock      string `long:"object-lock"`      // governance or compliance; empty: none
	ObjectLockDays  int    `long:"object-lock-days"` // for how long
	Generations     bool   `long:"generations"`      // the store lacks conditional creation: each writer has names of its own

	// SFTP.
	KeyFile           string `long:"key-file"`            // private key; empty: those of the agent
	KeyPassphraseFile string `long:"key-passphrase-file"` // for the private key
	KnownHosts        string `long:"known-hosts"`         // file with host keys; empty: ~/.ssh/known_hosts
	HostKey           string `long:"host-key"`            // fingerprint of the host's key, SHA256:..., in place of known-hosts
	NoFsync           bool   `long:"no-fsync"`            // accept a server that cannot make files durable
}

// ByURL is the name of the repository of --repo-url, which stands in no file.
const ByURL = "url"

// repoInfix is in the names of the environment variables of that repository.
const repoInfix = "REPO_"

// newRepository returns the defaults.
func newRepository(name string) Repository {
	return Repository{
		Name: name, KeepBackups: -1, KeepDays: -1, DeleteGrace: 24 * time.Hour, Timeout: time.Minute,
		Style: "auto", Credentials: "auto",
	}
}

// Kind is what holds the repository: s3, sftp or file.
func (r Repository) Kind() string {
	kind, _, _ := strings.Cut(r.URL, ":")
	return kind
}

// Chosen are the repositories that --repo and --repo-url choose; nil if they choose none.
func (r *Repos) Chosen() []Repository {
	switch {
	case r.RepoURL != "":
		return r.List
	case r.Repo != "":
		return slices.DeleteFunc(slices.Clone(r.List), func(one Repository) bool { return one.Name != r.Repo })
	}
	return nil
}

// Used are the repositories that a command works on which is not told to work on the spool alone: the chosen ones, or else all.
func (r *Repos) Used() []Repository {
	if chosen := r.Chosen(); chosen != nil {
		return chosen
	}
	return r.List
}

func (r *Repos) check() error {
	for _, one := range r.List {
		if err := one.check(); err != nil && one.Wrong == nil {
			return fmt.Errorf("repository %s: %w", one.Name, err)
		}
	}
	return r.checkChoice()
}

// noteWrong notes in each repository that is wrong why it is, and returns what was not known to be wrong before.
func (r *Repos) noteWrong() (problems []string) {
	for i := range r.List {
		one := &r.List[i]
		if err := one.check(); err != nil && one.Wrong == nil {
			one.spoil(err)
			problems = append(problems, fmt.Sprintf("repository %s: %v", one.Name, err))
		}
	}
	return problems
}

// spoil makes the repository one that is wrong. What may be a secret in its URL is removed, because messages name the URL.
func (r *Repository) spoil(why error) {
	r.Wrong = why
	u, err := url.Parse(r.URL)
	if err != nil {
		r.URL = ""
		return
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	r.URL = u.String()
}

func (r *Repos) checkChoice() error {
	if r.Repo != "" && r.RepoURL != "" {
		return errors.New("--repo and --repo-url exclude each other")
	}
	if r.Repo != "" && len(r.Chosen()) == 0 {
		return fmt.Errorf("there is no repository %q: the configuration file has %s", r.Repo, r.names())
	}
	return nil
}

// names lists the repositories for a message.
func (r *Repos) names() string {
	if len(r.List) == 0 {
		return "no section [repository NAME]"
	}
	var names []string
	for _, one := range r.List {
		names = append(names, "[repository "+one.Name+"]")
	}
	return strings.Join(names, ", ")
}

func (r *Repository) check() error {
	if r.URL == "" {
		return errors.New("url is missing")
	}
	u, err := url.Parse(r.URL)
	if err != nil { // the error of the parser repeats the URL, which may hold a password
		return errors.New("url is none: s3://bucket/prefix, sftp://user@host:port/path or file:///dir")
	}
	_, password := u.User.Password()
	switch {
	case password || u.Scheme == "s3" && u.User != nil:
		return errors.New("url holds a password or a key, which other users could read: S3 takes them from credentials-file, SFTP logs in with a key-file or an agent")
	case u.RawQuery != "" || u.Fragment != "":
		return errors.New("url has nothing behind its path: other settings are keys of their own")
	case u.Scheme == "s3" && (u.Host == "" || u.Port() != ""):
		return errors.New("url of S3 is s3://bucket/prefix; the service is the key endpoint")
	case u.Scheme == "sftp" && (u.Hostname() == "" || len(u.Path) < 2):
		return errors.New("url of SFTP is sftp://user@host:port/path, with an absolute path")
	case u.Scheme == "file" && (u.Host != "" || len(u.Path) < 2):
		return errors.New("url of a directory is file:///dir, with an absolute path")
	case !slices.Contains([]string{"s3", "sftp", "file"}, u.Scheme):
		return fmt.Errorf("url begins with s3://, sftp:// or file://, not with %q", u.Scheme)
	case r.KeepBackups < -1 || r.KeepDays < -1 || r.KeepDays > 100_000:
		return errors.New("keep-backups and keep-days are not negative, and keep-days is at most 100000")
	case r.DeleteGrace < 0:
		return errors.New("delete-grace is not negative")
	case r.Timeout < time.Second:
		return errors.New("timeout is at least 1s")
	case !slices.Contains([]string{"auto", "path", "virtual"}, r.Style):
		return fmt.Errorf("style is auto, path or virtual, not %q", r.Style)
	case !slices.Contains([]string{"auto", "file", "environment", "profile", "instance", "web-identity"}, r.Credentials):
		return fmt.Errorf("credentials is auto, file, environment, profile, instance or web-identity, not %q", r.Credentials)
	case r.Credentials == "file" && r.CredentialsFile == "":
		return errors.New("credentials = file needs credentials-file")
	case !slices.Contains([]string{"", "governance", "compliance"}, r.ObjectLock):
		return fmt.Errorf("object-lock is governance or compliance, not %q", r.ObjectLock)
	case (r.ObjectLock == "") != (r.ObjectLockDays == 0) || r.ObjectLockDays < 0:
		return errors.New("object-lock and object-lock-days are given together, and the days are at least 1")
	}
	return r.checkKind()
}

// changed lists the options that have another value than the default.
func (r *Repository) changed() (changed []*flags.Option, err error) {
	plain := newRepository(r.Name)
	defaults, err := optionsOf(&plain)
	if err != nil {
		return nil, err
	}
	own, err := optionsOf(r)
	if err != nil {
		return nil, err
	}
	for _, o := range own.Groups()[0].Options() {
		if o.Value() != defaults.FindOptionByLongName(o.LongName).Value() {
			changed = append(changed, o)
		}
	}
	return changed, nil
}

// checkKind refuses the keys of another kind, which would have no effect.
func (r *Repository) checkKind() error {
	changed, err := r.changed()
	if err != nil {
		return err
	}
	for kind, keys := range map[string][]string{
		"s3":   {"endpoint", "region", "style", "ca-file", "credentials", "credentials-file", "profile", "storage-class", "object-lock", "object-lock-days", "generations"},
		"sftp": {"key-file", "key-passphrase-file", "known-hosts", "host-key", "no-fsync"},
	} {
		for _, o := range changed {
			if kind != r.Kind() && slices.Contains(keys, o.LongName) {
				return fmt.Errorf("%s has no effect on a repository whose url begins with %s://", o.LongName, r.Kind())
			}
		}
	}
	return nil
}

// A block is a section [repository NAME], with empty lines in place of all others, so that its lines keep their numbers.
type block struct {
	name    string
	content string
}

// cutRepositories takes the sections of repositories out of a configuration file.
func cutRepositories(content []byte) (rest []byte, blocks []block, err error) {
	lines := strings.Split(strings.TrimPrefix(string(content), "\uFEFF"), "\n") // as some editors of Windows begin a file
	var repo []string                                                           // lines of the section that is read; nil in others
	end := func() {
		if repo != nil {
			blocks[len(blocks)-1].content = strings.Join(repo, "\n")
		}
		repo = nil
	}
	for i, line := range lines {
		if text := strings.TrimSpace(line); strings.HasPrefix(text, "[") {
			end()
			header, whole := strings.CutSuffix(text[1:], "]")
			fields := strings.Fields(header)
			if !whole || len(fields) == 0 || fields[0] != "repository" {
				continue
			}
			wrong := func(format string, args ...any) error {
				return &flags.IniError{LineNumber: uint(i + 1), Message: fmt.Sprintf(format, args...)}
			}
			if len(fields) != 2 || strings.Trim(fields[1], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") != "" {
				return nil, nil, wrong("%s: the section of a repository is [repository NAME], with letters, digits, _ and - in its name", text)
			}
			if slices.ContainsFunc(blocks, func(b block) bool { return b.name == fields[1] }) {
				return nil, nil, wrong("%s is given twice", text)
			}
			blocks = append(blocks, block{name: fields[1]})
			repo, lines[i] = make([]string, len(lines)), ""
			continue
		}
		if repo != nil {
			repo[i], lines[i] = line, ""
		}
	}
	end()
	return []byte(strings.Join(lines, "\n")), blocks, nil
}

// readRepositories fills c from the sections of repositories. A section that is wrong is a problem, and no error, for a command
// that works on none.
func (l *loader) readRepositories(c *Config, path string, content []byte, blocks []block) error {
	for _, b := range blocks {
		r := newRepository(b.name)
		one := loader{own: []any{&r}, tolerant: l.tolerant}
		err := one.parseSection(&r, path, []byte(b.content))
		l.problems = append(l.problems, one.problems...)
		if err != nil && !l.tolerant && slices.Contains(l.own, any(&c.Repos)) {
			return err
		} else if err != nil {
			r.spoil(describe(path, content, err))
			l.problems = append(l.problems, r.Wrong.Error())
		}
		c.List = append(c.List, r) // restore-cmd must know of a repository that it cannot reach
	}
	return nil
}

// readRepository makes the one repository that --repo-url or WALKEEP_REPO_URL names take the place of those of the file. Its
// other keys come from the environment.
func (l *loader) readRepository(c *Config) error {
	r := newRepository(ByURL)
	one := loader{own: []any{&r}, infix: repoInfix, tolerant: l.tolerant}
	if err := one.readEnvironment(&r); err != nil && slices.Contains(l.own, any(&c.Repos)) {
		return err
	} else if err != nil {
		l.problems = append(l.problems, err.Error())
	}
	l.problems = append(l.problems, one.problems...)
	if c.RepoURL == "" && c.Repo == "" {
		c.RepoURL = r.URL
	}
	if r.URL = c.RepoURL; r.URL != "" {
		c.List = []Repository{r}
	}
	return nil
}

// Variables returns the environment variables of the repository of --repo-url that have those keys which a text names.
func Variables(text string) (names []string) {
	words := strings.FieldsFunc(text, func(c rune) bool { return c != '-' && !unicode.IsLetter(c) })
	r := newRepository(ByURL)
	all, err := optionsOf(&r)
	if err != nil {
		return nil
	}
	for _, o := range all.Groups()[0].Options() {
		unmistakable := strings.Contains(o.LongName, "-") || slices.Contains([]string{"generations", "region", "endpoint"}, o.LongName)
		if unmistakable && slices.Contains(words, o.LongName) {
			names = append(names, variable(repoInfix, o.LongName))
		}
	}
	return names
}

// Section returns the repository as a section of a configuration file, with the keys that have another value than the default. The
// paths of files are made absolute. It holds no secrets.
func (r Repository) Section() (string, error) {
	changed, err := r.changed()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "[repository %s]\n", r.Name)
	for _, o := range changed {
		value := fmt.Sprint(o.Value())
		if strings.HasSuffix(o.LongName, "-file") || o.LongName == "known-hosts" {
			if value, err = filepath.Abs(value); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&b, "%s = %s\n", o.LongName, value)
	}
	return b.String(), nil
}

// Environment returns the names of the environment variables that are set and from which the repository's credentials are taken,
// or with which they are found.
func (r Repository) Environment() (names []string) {
	switch r.Kind() {
	case "s3":
		if r.Credentials == "file" || r.Credentials == "instance" {
			return nil
		}
		for _, v := range os.Environ() {
			if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	case "sftp":
		if r.KeyFile == "" && os.Getenv("SSH_AUTH_SOCK") != "" {
			names = append(names, "SSH_AUTH_SOCK")
		}
	}
	return names
}
