package s3

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// Sources are the places that credentials can be taken from, in the order in which "auto" tries them: a file of the user's own
// ([Options].CredentialsFile), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a role for the token in AWS_WEB_IDENTITY_TOKEN_FILE, a
// profile of the files that Amazon's tools share, and the role of the machine or container.
var Sources = []string{"file", "environment", "web-identity", "profile", "instance"}

// errNotSet says that a source is not there, so that "auto" tries the next one.
var errNotSet = errors.New("not set")

// sources gives the credentials of the first source that is there. It asks that source again when they expire.
type sources struct {
	names   []string
	options Options
	current credentials.Provider // nil: none was found yet
}

func newSources(o Options) (*sources, error) {
	s := &sources{names: Sources, options: o}
	if o.Credentials != "" && o.Credentials != "auto" {
		if !slices.Contains(Sources, o.Credentials) {
			return nil, fmt.Errorf("credentials are auto or one of %s, not %q", strings.Join(Sources, ", "), o.Credentials)
		}
		s.names = []string{o.Credentials}
	}
	return s, nil
}

// provider makes that of a source. It returns errNotSet if the source is not there.
func (s *sources) provider(source string) (credentials.Provider, error) {
	o := s.options
	switch source {
	case "file":
		if o.CredentialsFile == "" || o.Credentials != "file" && o.Profile != "" {
			return nil, errNotSet
		}
		return &keyFile{path: o.CredentialsFile}, nil
	case "environment":
		if os.Getenv("AWS_ACCESS_KEY_ID") == "" || os.Getenv("AWS_SECRET_ACCESS_KEY") == "" {
			return nil, errNotSet
		}
		return &credentials.EnvAWS{}, nil
	case "web-identity":
		if os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") == "" {
			return nil, errNotSet
		}
		return &credentials.IAM{Client: metadataClient, Endpoint: os.Getenv("AWS_ENDPOINT_URL_STS"), Region: o.Region}, nil
	case "profile":
		profile := cmp.Or(o.Profile, os.Getenv("AWS_PROFILE"))
		if profile == "" && o.CredentialsFile == "" && s.options.Credentials != "profile" && !sharedFile() {
			return nil, errNotSet
		}
		return &credentials.FileAWSCredentials{Filename: o.CredentialsFile, Profile: profile}, nil
	}
	return &credentials.IAM{Client: metadataClient, Endpoint: os.Getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT"), Region: o.Region}, nil
}

// metadataClient asks services that are near, or not there at all.
var metadataClient = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{Proxy: nil, ResponseHeaderTimeout: 5 * time.Second}}

// sharedFile reports whether Amazon's tools have left a file with credentials.
func sharedFile() bool {
	path := os.Getenv("AWS_SHARED_CREDENTIALS_FILE")
	if home, err := os.UserHomeDir(); path == "" && err == nil {
		path = filepath.Join(home, ".aws", "credentials")
	}
	_, err := os.Stat(path)
	return path != "" && !errors.Is(err, fs.ErrNotExist)
}

// RetrieveWithCredContext implements [credentials.Provider].
func (s *sources) RetrieveWithCredContext(c *credentials.CredContext) (credentials.Value, error) {
	var tried []string
	for _, name := range s.names {
		p, err := s.provider(name)
		if err == nil {
			var v credentials.Value
			if v, err = p.RetrieveWithCredContext(c); err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
				err = errors.New("it has no access key and secret key")
			}
			if err == nil {
				s.current = p
				return v, nil
			}
		}
		tried = append(tried, fmt.Sprintf("%s: %v", name, err))
		if !errors.Is(err, errNotSet) {
			break // another identity than the one that was meant would be worse
		}
	}
	s.current = nil
	return credentials.Value{}, cli.Hinted(fmt.Errorf("%w: there are no credentials: %s", storage.ErrDenied, strings.Join(tried, "; ")),
		"set credentials-file to a file with the two lines access-key = ... and secret-key = ..., or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment")
}

// Retrieve implements [credentials.Provider].
func (s *sources) Retrieve() (credentials.Value, error) { return s.RetrieveWithCredContext(nil) }

// IsExpired implements [credentials.Provider].
func (s *sources) IsExpired() bool { return s.current == nil || s.current.IsExpired() }

// A keyFile has the lines access-key = ..., secret-key = ... and, for temporary credentials, session-token = .... It is read again when it
// has changed.
type keyFile struct {
	path    string
	changed time.Time
}

// RetrieveWithCredContext implements [credentials.Provider].
func (f *keyFile) RetrieveWithCredContext(*credentials.CredContext) (credentials.Value, error) {
	file, err := os.Open(f.path)
	if err != nil {
		return credentials.Value{}, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return credentials.Value{}, err
	}
	if runtime.GOOS != "windows" && info.Mode()&0o007 != 0 {
		return credentials.Value{}, fmt.Errorf("every user of this host can use %s: take the rights of others away (chmod o= %s)", f.path, f.path)
	}
	v := credentials.Value{SignerType: credentials.SignatureV4}
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' || line[0] == ';' || line[0] == '[' {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		switch value = strings.TrimSpace(value); strings.TrimSpace(key) {
		case "access-key", "aws_access_key_id":
			v.AccessKeyID = value
		case "secret-key", "aws_secret_access_key":
			v.SecretAccessKey = value
		case "session-token", "aws_session_token":
			v.SessionToken = value
		default:
			return credentials.Value{}, fmt.Errorf("line %d of %s sets none of access-key, secret-key and session-token", n, f.path)
		}
	}
	f.changed = info.ModTime()
	return v, lines.Err()
}

// Retrieve implements [credentials.Provider].
func (f *keyFile) Retrieve() (credentials.Value, error) { return f.RetrieveWithCredContext(nil) }

// IsExpired implements [credentials.Provider].
func (f *keyFile) IsExpired() bool {
	info, err := os.Stat(f.path)
	return err == nil && !info.ModTime().Equal(f.changed)
}
