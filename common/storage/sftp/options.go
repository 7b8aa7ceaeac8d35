package sftp

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"
)

// Options say where an archive is, and how the server is reached and recognized.
type Options struct {
	User string // empty: the name of this process's user
	Host string
	Port int    // 0: 22
	Path string // of the archive's root; relative to the account's home directory without a slash at its beginning

	KeyFile        string // private key; empty: the keys of the agent at SSH_AUTH_SOCK
	PassphraseFile string // holds the passphrase of the private key; empty: there is none
	KnownHosts     string // file of host keys, as ssh keeps it; empty: ~/.ssh/known_hosts
	HostKey        string // fingerprint of the host's key, "SHA256:...", in place of KnownHosts

	NoFsync bool          // write to a server that cannot make files durable
	Timeout time.Duration // after which a connection without an answer is given up; 0: one minute
}

const (
	defaultPort    = 22
	defaultTimeout = time.Minute
)

// ParseURL reads the place of an archive: sftp://user@host:port/path. A path that begins with /~/ is relative to the
// account's home directory.
func ParseURL(text string) (Options, error) {
	u, err := url.Parse(text)
	if err != nil {
		var detail *url.Error
		if errors.As(err, &detail) {
			err = detail.Err // without the URL, which may hold a password
		}
		return Options{}, fmt.Errorf("URL of the SFTP server: %w", err)
	}
	o := Options{User: u.User.Username(), Host: u.Hostname(), Path: u.Path}
	_, hasPassword := u.User.Password()
	switch {
	case u.Scheme != "sftp":
		return o, fmt.Errorf("URL of the SFTP server: its scheme is %q, want sftp", u.Scheme)
	case hasPassword:
		return o, errors.New("URL of the SFTP server: it holds a password, which is not supported: use a key")
	case o.Host == "":
		return o, errors.New("URL of the SFTP server: it has no host")
	case u.RawQuery != "" || u.Fragment != "":
		return o, errors.New("URL of the SFTP server: nothing may follow the path")
	}
	if p := u.Port(); p != "" {
		if o.Port, err = strconv.Atoi(p); err != nil || o.Port < 1 || o.Port > 65535 {
			return o, fmt.Errorf("URL of the SFTP server: %q is not a port", p)
		}
	}
	if rest, ok := strings.CutPrefix(o.Path, "/~/"); ok {
		o.Path = rest
	} else if o.Path == "/~" {
		o.Path = ""
	}
	return o, nil
}

// complete fills in the defaults.
func (o Options) complete() (Options, error) {
	if o.Port == 0 {
		o.Port = defaultPort
	}
	if o.Timeout == 0 {
		o.Timeout = defaultTimeout
	}
	if o.Path == "" {
		o.Path = "."
	}
	if o.User == "" {
		u, err := user.Current()
		if err != nil {
			return o, fmt.Errorf("name of the SFTP account: %w", err)
		}
		o.User = u.Username[strings.LastIndexByte(u.Username, '\\')+1:]
	}
	if o.KnownHosts == "" && o.HostKey == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return o, fmt.Errorf("find the file of known hosts: %w", err)
		}
		o.KnownHosts = home + "/.ssh/known_hosts"
	}
	return o, nil
}
