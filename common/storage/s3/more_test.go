package s3_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"walkeep/common/cli"
	"walkeep/common/storage"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/storage/s3"
	"walkeep/common/storage/s3/s3test"
)

// Of two writers of one name exactly one wins, with small objects and with those in parts.
func TestRaces(t *testing.T) {
	races := 30
	if n, err := strconv.Atoi(os.Getenv("WALKEEP_RACES")); err == nil {
		races = n
	}
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		o := s.Options(t, s.Bucket(t))
		o.PartSize = 5 << 20
		writers := []*s3.Backend{open(t, o), open(t, o)}
		for i := range races {
			name := fmt.Sprintf("dir/%d", i)
			var contents [2]string
			for j := range contents {
				contents[j] = fmt.Sprintf("content of %d for %s", j, name)
				if i%50 == 7 {
					contents[j] += strings.Repeat("x", 5<<20)
				}
			}
			var errs [2]error
			var done sync.WaitGroup
			for j, b := range writers {
				done.Go(func() { errs[j] = put(t, b, name, contents[j]) })
			}
			done.Wait()
			winner := slices.Index(errs[:], nil)
			if winner < 0 || !errors.Is(errs[1-winner], storage.ErrExist) {
				t.Errorf("%s: got %v and %v, want one ErrExist", name, errs[0], errs[1])
				continue
			}
			want(t, writers[0], name, contents[winner])
		}
	})
}

// More than a page of objects and directories comes in order and whole.
func TestListPages(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		o := s.Options(t, s.Bucket(t))
		o.Prefix = "p"
		b := open(t, o)
		var names, flat []string
		var done sync.WaitGroup
		tickets := make(chan bool, 16)
		for i := range 1100 {
			name := fmt.Sprintf("wal/%04d", i)
			if i%3 == 0 {
				names, name = append(names, name+"/"), name+"/object"
			} else {
				names = append(names, name)
			}
			flat = append(flat, name)
			done.Go(func() {
				tickets <- true
				defer func() { <-tickets }()
				if err := b.Replace(t.Context(), name, nil); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
		for _, test := range []struct {
			recursive bool
			want      []string
		}{{false, names}, {true, flat}} {
			var got []string
			for e, err := range b.List(t.Context(), "wal/", storage.ListOptions{Recursive: test.recursive}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.Name)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("recursive %v: got %d names, want %d in order", test.recursive, len(got), len(test.want))
			}
		}
		// A listing whose context ends is not taken for a whole one.
		ctx, end := context.WithCancel(t.Context())
		defer end()
		var last error
		for _, err := range b.List(ctx, "wal/", storage.ListOptions{Recursive: true}) {
			end()
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("got %v, want that the context has ended", last)
		}
		if err := b.Remove(t.Context(), flat...); err != nil {
			t.Error(err)
		}
		if entries, err := storage.ListAll(t.Context(), b, ""); len(entries) > 0 || err != nil {
			t.Errorf("got %v, %v after all was removed", entries, err)
		}
	})
}

// What other programs have put below the prefix is not shown.
func TestListHides(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		bucket := s.Bucket(t)
		o := s.Options(t, bucket)
		o.Prefix = "p"
		b := open(t, o)
		core := s.Client(t)
		for _, key := range []string{"p/.hidden", "p/.dir/x", "p/dir/", "p/dir/.x", "p/dir/shown", "q/outside", "pq"} {
			if _, err := core.PutObject(t.Context(), bucket, key, bytes.NewReader(nil), 0, "", "", minio.PutObjectOptions{DisableContentSha256: true}); err != nil {
				t.Fatal(key, err)
			}
		}
		for _, test := range []struct {
			recursive bool
			want      string
		}{{false, "dir/"}, {true, "dir/shown"}} {
			var got []string
			for e, err := range b.List(t.Context(), "", storage.ListOptions{Recursive: test.recursive}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, e.Name)
			}
			if strings.Join(got, " ") != test.want {
				t.Errorf("recursive %v: got %q, want %q", test.recursive, got, test.want)
			}
		}
	})
}

// A credential that may not remove suffices for all but that.
func TestAppendOnly(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		bucket := s.Bucket(t)
		o := s.Options(t, bucket)
		all := open(t, o)
		o.PartSize = 5 << 20
		o.CredentialsFile = s.Limited(t, bucket, "s3:PutObject", "s3:GetObject", "s3:ListBucket")
		b := open(t, o)
		if ok, err := b.Conditional(t.Context()); !ok || err != nil {
			t.Errorf("conditional: got %v, %v", ok, err)
		}
		big := strings.Repeat("x", 6<<20)
		for name, content := range map[string]string{"a": "a", "dir/b": "b", "big": big} {
			if err := put(t, b, name, content); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			want(t, b, name, content)
			if err := put(t, b, name, "other"); !errors.Is(err, storage.ErrExist) {
				t.Errorf("%s: got %v, want ErrExist", name, err)
			}
		}
		if err := b.Replace(t.Context(), "note", []byte("x")); err != nil {
			t.Error(err)
		}
		for _, names := range [][]string{{"a"}, {"a", "dir/b"}} {
			if err := b.Remove(t.Context(), names...); !errors.Is(err, storage.ErrDenied) || cli.Hint(err) == "" {
				t.Errorf("remove %q: got %v, want ErrDenied with a hint", names, err)
			}
		}
		if entries, err := storage.ListAll(t.Context(), b, ""); len(entries) != 4 || err != nil {
			t.Errorf("list: got %v, %v", entries, err)
		}
		if err := all.Remove(t.Context(), "a", "dir/b"); err != nil {
			t.Error(err)
		}
		// One that may not list does not get in, and one that may not read cannot take anything for absent.
		o.CredentialsFile = s.Limited(t, bucket, "s3:PutObject")
		if _, err := s3.Open(t.Context(), o); !errors.Is(err, storage.ErrDenied) {
			t.Errorf("open: got %v, want ErrDenied", err)
		}
		o.CredentialsFile = s.Limited(t, bucket, "s3:PutObject", "s3:ListBucket")
		b = open(t, o)
		if _, err := b.Open(t.Context(), "missing"); !errors.Is(err, storage.ErrDenied) {
			t.Errorf("get: got %v, want ErrDenied", err)
		}
	})
}

// Errors of Open say what is wrong, have a hint, and hold no secret.
func TestOpenErrors(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		bucket := s.Bucket(t)
		p := faultproxy.Start(t, s.URL)
		p.Change(nil, func(r *http.Response) {
			body := "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference is too large.</Message></Error>"
			r.StatusCode, r.Body = http.StatusForbidden, io.NopCloser(strings.NewReader(body))
			r.Header.Set("Content-Type", "application/xml")
			r.Header.Del("Content-Length")
		})
		secret := "a-secret-that-nobody-sees"
		for _, test := range []struct {
			what   string
			change func(o *s3.Options)
			want   error
			says   string
		}{
			{"no such bucket", func(o *s3.Options) { o.Bucket = "no-such-bucket" }, storage.ErrUnavailable, "no-such-bucket"},
			{"an unknown key", func(o *s3.Options) { o.CredentialsFile = s3test.KeyFile(t, "nobody", secret, "") }, storage.ErrDenied, "InvalidAccessKeyId"},
			{"a wrong secret", func(o *s3.Options) { o.CredentialsFile = s3test.KeyFile(t, s.AccessKey, secret, "") }, storage.ErrDenied, "SignatureDoesNotMatch"},
			{"an invalid token", func(o *s3.Options) {
				o.CredentialsFile = s3test.KeyFile(t, s.AccessKey, s.SecretKey, secret)
			}, nil, "open bucket"},
			{"no key file", func(o *s3.Options) { o.CredentialsFile = "missing" }, storage.ErrDenied, "there are no credentials"},
			{"a clock", func(o *s3.Options) { o.Endpoint = p.URL }, nil, "RequestTimeTooSkewed"},
			{"nobody", func(o *s3.Options) { o.Endpoint = "http://127.0.0.1:1" }, nil, "refused"},
			{"HTTPS of a server without it", func(o *s3.Options) { o.Endpoint = strings.Replace(o.Endpoint, "http:", "https:", 1) }, nil, "HTTP response to HTTPS client"},
		} {
			o := s.Options(t, bucket)
			test.change(&o)
			b, err := s3.Open(t.Context(), o)
			if err == nil && test.what == "an invalid token" {
				b.Close() // versitygw knows no tokens
				continue
			}
			if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: got %v, want %v and %q", test.what, err, test.want, test.says)
				continue
			}
			if test.want != nil && cli.Hint(err) == "" {
				t.Errorf("%s: there is no hint", test.what)
			}
			if errors.Is(err, storage.ErrNotExist) || strings.Contains(err.Error()+cli.Hint(err), secret) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: got %v", test.what, err)
			}
		}
	})
	for what, o := range map[string]s3.Options{
		"a part":           {PartSize: 1},
		"path style":       {PathStyle: "dns"},
		"credentials":      {Credentials: "guess"},
		"object lock":      {ObjectLock: "forever", ObjectLockDays: 1},
		"days":             {ObjectLock: "governance"},
		"a password":       {Endpoint: "https://me:hidden@host"},
		"not \"https://":   {Endpoint: "https://host/path"},
		"the certificates": {CAFile: "missing"},
	} {
		o.Bucket = "bucket"
		if _, err := s3.Open(t.Context(), o); err == nil || !strings.Contains(err.Error(), what) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: got %v, want %q", o, err, what)
		}
	}
}

// A page of somebody else, whatever its status, is never an answer about an object.
func TestForeignAnswers(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	o := s.Options(t, s.Bucket(t))
	o.Endpoint, o.RetryFor = p.URL, 50*time.Millisecond
	b := open(t, o)
	if err := put(t, b, "first", "x"); err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{200, 302, 403, 404, 409, 412, 502} {
		for _, kind := range []string{"text/html", "text/plain"} {
			page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", kind)
				w.WriteHeader(status)
				io.WriteString(w, "<html><body>Please log in</body></html>")
			}))
			p.Change(func(r *http.Request) { r.URL.Host = strings.TrimPrefix(page.URL, "http://") }, nil)
			_, errOpen := b.Open(t.Context(), "first")
			_, errList := storage.ListAll(t.Context(), b, "")
			for what, err := range map[string]error{"get": errOpen, "list": errList, "put": put(t, b, "first", "x"),
				"remove": b.Remove(t.Context(), "first"), "remove many": b.Remove(t.Context(), "first", "second"), "replace": b.Replace(t.Context(), "note", nil)} {
				if status == 200 && kind == "text/plain" && what == "remove" {
					continue // a store's own answer says no more
				}
				if err == nil || errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrExist) || errors.Is(err, storage.ErrDenied) || errors.Is(err, storage.ErrUnavailable) {
					t.Errorf("%s, %d, %s: got %v", what, status, kind, err)
				}
			}
			page.Close()
			p.Change(nil, nil)
		}
	}
}

// A store that ignores conditions gets nothing.
func TestUnconditional(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	o := s.Options(t, s.Bucket(t))
	o.Endpoint, o.PartSize = p.URL, 5<<20
	strip := func(method string) func(*http.Request) {
		return func(r *http.Request) {
			if r.Method == method && r.Header.Get("If-None-Match") != "" {
				r.Header.Del("If-None-Match")
				s.Sign(r)
			}
		}
	}
	p.Change(strip(http.MethodPut), nil)
	b := open(t, o)
	if ok, err := b.Conditional(t.Context()); ok || err != nil {
		t.Errorf("conditional: got %v, %v", ok, err)
	}
	_, err := b.Create(t.Context(), "name", storage.CreateOptions{})
	if !errors.Is(err, storage.ErrUnconditional) || cli.Hint(err) == "" {
		t.Errorf("create: got %v, want ErrUnconditional with a hint", err)
	}
	// One that keeps them for a single PUT alone gets no parts.
	p.Change(strip(http.MethodPost), nil)
	b = open(t, o)
	if ok, err := b.Conditional(t.Context()); ok || err != nil {
		t.Errorf("conditional: got %v, %v", ok, err)
	}
	if err := put(t, b, "small", "x"); err != nil {
		t.Error(err)
	}
	if err := put(t, b, "big", strings.Repeat("x", 6<<20)); !errors.Is(err, storage.ErrUnconditional) {
		t.Errorf("big: got %v, want ErrUnconditional", err)
	}
	if entries, err := storage.ListAll(t.Context(), b, ""); len(entries) != 1 || err != nil {
		t.Errorf("list: got %v, %v", entries, err)
	}
}

func TestTLS(t *testing.T) {
	for _, kind := range s3test.Kinds() {
		t.Run(kind, func(t *testing.T) {
			s := s3test.StartTLS(t, kind)
			o := s.Options(t, s.Bucket(t))
			o.PartSize = 5 << 20
			b := open(t, o)
			for name, content := range map[string]string{"small": "x", "big": strings.Repeat("x", 6<<20)} {
				if err := put(t, b, name, content); err != nil {
					t.Error(err)
				}
				want(t, b, name, content)
			}
			if err := b.Remove(t.Context(), "small", "big"); err != nil {
				t.Error(err)
			}
			o.CAFile = ""
			if _, err := s3.Open(t.Context(), o); err == nil || !strings.Contains(cli.Hint(err), "ca-file") {
				t.Errorf("got %v, want an error with a hint", err)
			}
		})
	}
}

// Objects are locked and notes are not.
func TestObjectLock(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		bucket := s.LockedBucket(t)
		o := s.Options(t, bucket)
		o.ObjectLock, o.ObjectLockDays, o.PartSize, o.StorageClass = "compliance", 3, 5<<20, "STANDARD"
		b := open(t, o)
		for name, content := range map[string]string{"small": "x", "big": strings.Repeat("x", 6<<20)} {
			if err := put(t, b, name, content); err != nil {
				t.Fatal(err)
			}
			info, err := s.Client(t).StatObject(t.Context(), bucket, name, minio.StatObjectOptions{})
			if err != nil {
				t.Fatal(err)
			}
			mode := info.Metadata.Get("X-Amz-Object-Lock-Mode")
			until, err := time.Parse(time.RFC3339, info.Metadata.Get("X-Amz-Object-Lock-Retain-Until-Date"))
			if err != nil || mode != "COMPLIANCE" || time.Until(until).Round(24*time.Hour) != 72*time.Hour {
				t.Errorf("%s: got %q until %v, %v", name, mode, until, err)
			}
		}
		if err := b.Replace(t.Context(), "note", []byte("x")); err != nil {
			t.Error(err)
		}
		if err := b.Replace(t.Context(), "note", []byte("y")); err != nil {
			t.Error(err)
		}
		want(t, b, "note", "y")
		if err := b.Remove(t.Context(), "note"); err != nil {
			t.Errorf("remove a note: %v", err)
		}
		o.Bucket = s.Bucket(t)
		if err := put(t, open(t, o), "small", "x"); err == nil {
			t.Error("a bucket without object lock takes a locked object")
		}
	})
}

// helper is the environment of another process of the test's own program, which writes an object and stops in the middle.
const helper = "WALKEEP_TEST_S3"

func helperMain(options string) {
	var o s3.Options
	err := json.Unmarshal([]byte(options), &o)
	if err == nil {
		var b *s3.Backend
		if b, err = s3.Open(context.Background(), o); err == nil {
			err = storage.Put(context.Background(), b, "dir/big", func(w io.Writer) error {
				for range 3 { // the first part is on its way when the second is full
					if _, err := w.Write(make([]byte, 5<<20)); err != nil {
						return err
					}
				}
				fmt.Println("ready")
				_, err := fmt.Scanln()
				return err
			}, nil)
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// Killed in the middle, a writer leaves nothing that is listed, and what it leaves is aborted later.
func TestKilledWriter(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		o := s.Options(t, s.Bucket(t))
		o.PartSize, o.Prefix = 5<<20, "p"
		options, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), helper+"="+string(options))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		defer stdin.Close()
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var word string
		if _, err := fmt.Fscan(stdout, &word); err != nil {
			t.Errorf("%v: %s", err, errs.String())
		}
		cmd.Process.Kill()
		cmd.Wait()
		b := open(t, o)
		if entries, err := storage.ListAll(t.Context(), b, ""); len(entries) != 0 || err != nil {
			t.Errorf("list: got %v, %v", entries, err)
		}
		uploads := func() int {
			r, err := s.Client(t).ListMultipartUploads(t.Context(), o.Bucket, "p/dir/big", "", "", "", 10)
			if err != nil {
				t.Fatal(err)
			}
			return len(r.Uploads)
		}
		if got := uploads(); got != 1 {
			t.Errorf("got %d uploads, want that of the killed writer", got)
		}
		if n, err := b.AbortStale(t.Context(), time.Hour); n != 0 || err != nil {
			t.Errorf("abort what is an hour old: got %d, %v", n, err)
		}
		time.Sleep(1100 * time.Millisecond) // the store gives whole seconds
		n, err := b.AbortStale(t.Context(), 0)
		if wantN := map[string]int{s3test.Versitygw: 1}[s.Kind]; n != wantN || err != nil {
			t.Errorf("abort: got %d, %v, want %d", n, err, wantN)
		}
		if got := uploads(); s.Kind != s3test.MinIO && got != 0 { // MinIO lists uploads for one key only, and ends them itself
			t.Errorf("got %d uploads after they were aborted", got)
		}
		if err := put(t, b, "dir/big", "again"); err != nil {
			t.Error(err)
		}
		// A living writer that gives up leaves nothing.
		w, err := b.Create(t.Context(), "dir/other", storage.CreateOptions{})
		if err == nil {
			_, err = w.Write(make([]byte, 16<<20))
		}
		if err != nil {
			t.Fatal(err)
		}
		w.Discard()
		r, err := s.Client(t).ListMultipartUploads(t.Context(), o.Bucket, "p/dir/other", "", "", "", 10)
		if err != nil || len(r.Uploads) != 0 {
			t.Errorf("got %d uploads, %v", len(r.Uploads), err)
		}
	})
}

// Each source of credentials works by itself, and "auto" takes the first that is there.
func TestCredentials(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	bucket := s.Bucket(t)
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_CONFIG_FILE",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		t.Setenv(name, "")
	}
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(home, "none"))
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	asked := 0
	metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch {
		case r.Method == http.MethodPut:
			io.WriteString(w, "token")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			io.WriteString(w, "role")
		case r.Method == http.MethodPost:
			fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, s.AccessKey, s.SecretKey, expires)
		default:
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":%q,"SecretAccessKey":%q,"Token":"","Expiration":%q}`, s.AccessKey, s.SecretKey, expires)
		}
	}))
	defer metadata.Close()
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata.URL)
	t.Setenv("AWS_ENDPOINT_URL_STS", metadata.URL)
	good := s.Options(t, bucket)
	try := func(source, file, profile string) error {
		o := good
		o.Credentials, o.CredentialsFile, o.Profile = source, file, profile
		b, err := s3.Open(t.Context(), o)
		if err == nil {
			b.Close()
		}
		return err
	}
	works := func(source, file, profile string) {
		t.Helper()
		if err := try(source, file, profile); err != nil {
			t.Errorf("%s: %v", source, err)
		}
	}
	fails := func(source, file, profile, says string) {
		t.Helper()
		if err := try(source, file, profile); !errors.Is(err, storage.ErrDenied) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want ErrDenied and %q", source, err, says)
		}
	}
	works("file", good.CredentialsFile, "")
	works("auto", good.CredentialsFile, "")
	fails("environment", "", "", "not set")
	fails("web-identity", "", "", "not set")
	fails("profile", "", "", "profile")
	fails("file", filepath.Join(home, "none"), "", "none")
	if asked != 0 {
		t.Error("the metadata service was asked")
	}
	works("instance", "", "")
	works("auto", "", "")
	if asked == 0 {
		t.Error("the metadata service was not asked")
	}
	token := filepath.Join(home, "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r")
	works("web-identity", "", "")
	t.Setenv("AWS_ACCESS_KEY_ID", s.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", s.SecretKey)
	works("environment", "", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	fails("auto", "", "", "SignatureDoesNotMatch")
	profile := filepath.Join(home, "profiles")
	if err := os.WriteFile(profile, fmt.Appendf(nil, "[default]\naws_access_key_id=x\naws_secret_access_key=y\n[wal]\naws_access_key_id=%s\naws_secret_access_key=%s\n", s.AccessKey, s.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	works("profile", profile, "wal")
	fails("profile", profile, "", "InvalidAccessKeyId")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", profile)
	works("profile", "", "wal")
	// A file that others can use, and one that is none.
	if err := os.Chmod(good.CredentialsFile, 0o604); err != nil {
		t.Fatal(err)
	}
	fails("file", good.CredentialsFile, "", "every user")
	bad := filepath.Join(home, "bad")
	if err := os.WriteFile(bad, []byte("access-key = x\npassword-of-mine\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	fails("file", bad, "", "line 2")
	if err := try("file", bad, ""); strings.Contains(err.Error(), "password-of-mine") {
		t.Errorf("the error repeats the file: %v", err)
	}
}

// A key file that was replaced is read again.
func TestKeyFileChanges(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	o := s.Options(t, s.Bucket(t))
	b := open(t, o)
	good, err := os.ReadFile(o.CredentialsFile)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	set := func(content []byte) {
		t.Helper()
		at = at.Add(time.Second)
		if err := errors.Join(os.WriteFile(o.CredentialsFile, content, 0o600), os.Chtimes(o.CredentialsFile, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	set([]byte("access-key = other\nsecret-key = other\n"))
	if err := b.Replace(t.Context(), "note", nil); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("got %v, want ErrDenied", err)
	}
	set(good)
	if err := b.Replace(t.Context(), "note", nil); err != nil {
		t.Error(err)
	}
}

// What is sent wrong is refused by the store, and what is received short is an error.
func TestDamage(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		p := faultproxy.Start(t, s.URL)
		o := s.Options(t, s.Bucket(t))
		o.Endpoint, o.RetryFor, o.PartSize = p.URL, 100*time.Millisecond, 5<<20
		b := open(t, o)
		big := strings.Repeat("x", 6<<20)
		if err := errors.Join(put(t, b, "small", "content"), put(t, b, "big", big)); err != nil {
			t.Fatal(err)
		}
		p.Do(func(_ int, r *http.Request) faultproxy.Fault {
			if r.Method == http.MethodPut {
				return faultproxy.WrongRequest
			}
			return faultproxy.None
		})
		for name, content := range map[string]string{"wrong/small": "content", "wrong/big": big} {
			if err := put(t, b, name, content); err == nil {
				t.Errorf("%s is stored", name)
			}
		}
		if err := b.Replace(t.Context(), "wrong/note", []byte("content")); err == nil {
			t.Error("a wrong note is stored")
		}
		p.Do(nil)
		if entries, err := storage.ListAll(t.Context(), b, "wrong/"); len(entries) != 0 || err != nil {
			t.Errorf("got %v, %v", entries, err)
		}
		p.Do(func(n int, _ *http.Request) faultproxy.Fault { return faultproxy.CutAnswer })
		if _, err := storage.ReadAll(t.Context(), b, "small", 100); err == nil || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("a short small object: got %v", err)
		}
		if _, err := storage.ListAll(t.Context(), b, ""); err == nil {
			t.Error("a short listing is no error")
		}
		p.Do(nil)
		object, err := b.Open(t.Context(), "big")
		if err != nil {
			t.Fatal(err)
		}
		p.Do(faultproxy.At(1, faultproxy.CutAnswer))
		r, err := object.Reader(t.Context(), 0, object.Size())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if err != nil || string(got) != big || len(p.Log()) != 2 {
			t.Errorf("a stream that breaks: got %d bytes, %v after %d requests", len(got), err, len(p.Log()))
		}
		// A note that is replaced meanwhile is not mixed.
		if err := b.Replace(t.Context(), "big", []byte(strings.Repeat("y", 6<<20))); err != nil {
			t.Fatal(err)
		}
		if _, err := object.Reader(t.Context(), 0, object.Size()); err == nil || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("an object that was replaced: got %v", err)
		}
	})
}
