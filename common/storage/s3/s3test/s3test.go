// Package s3test starts S3 servers for tests: versitygw, which scripts/fetch-versitygw installs, and MinIO where scripts/fetch-minio
// has installed it. Neither runs on Windows, where the environment names a versitygw that runs already:
// WALKEEP_S3_SERVER=http://ACCESSKEY:SECRETKEY@127.0.0.1:PORT.
package s3test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/signer"

	"walkeep/common/storage/s3"
)

// Kinds of servers.
const (
	Versitygw = "versitygw"
	MinIO     = "minio"
)

// Kinds returns those that are tested: versitygw, and MinIO where it is installed or WALKEEP_MINIO asks for it.
func Kinds() []string {
	if _, err := program(MinIO, "--find"); err != nil && os.Getenv("WALKEEP_MINIO") == "" {
		return []string{Versitygw}
	}
	return []string{Versitygw, MinIO}
}

// programs caches the results of program.
var programs sync.Map

// program returns the path of a server's program. With the option --path it is built if it is missing.
func program(kind, option string) (string, error) {
	if path, ok := programs.Load(kind); ok {
		return path.(string), nil
	}
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		return "", errors.New("where the checkout is cannot be found out")
	}
	var stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(filepath.Dir(file), "../../../../scripts/fetch-"+kind), option)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", kind, err, strings.TrimSpace(stderr.String()))
	}
	path := strings.TrimSpace(string(out))
	programs.Store(kind, path)
	return path, nil
}

// A Server is a running S3 server.
type Server struct {
	Kind      string
	URL       string // http://127.0.0.1:PORT
	AccessKey string // of the one who may do everything
	SecretKey string
	CAFile    string // of a server with TLS
	Dir       string // of its data

	path string // of its program
}

// Start starts a server of a kind that ends with the test.
func Start(t testing.TB, kind string) *Server { return start(t, kind, false) }

// StartTLS starts a server with a certificate of its own, which CAFile holds.
func StartTLS(t testing.TB, kind string) *Server { return start(t, kind, true) }

func start(t testing.TB, kind string, secure bool) *Server {
	t.Helper()
	if running, err := url.Parse(os.Getenv("WALKEEP_S3_SERVER")); err == nil && running.Host != "" && kind == Versitygw && !secure {
		s := &Server{Kind: kind, URL: "http://" + running.Host, AccessKey: running.User.Username()}
		s.SecretKey, _ = running.User.Password()
		return s
	}
	path, err := program(kind, "--path")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Kind: kind, AccessKey: "test-access", SecretKey: "test-secret-" + crand.Text(), Dir: filepath.Join(t.TempDir(), "data"), path: path}
	iam := filepath.Join(t.TempDir(), "iam")
	for _, dir := range []string{s.Dir, iam} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var certs string
	if secure {
		certs = t.TempDir()
		if err := Certificate(certs); err != nil {
			t.Fatal(err)
		}
		s.CAFile = filepath.Join(certs, "public.crt")
	}
	// Another process may take the port between its choice and its use.
	for try := 1; ; try++ {
		err := s.run(t, freeAddress(t), iam, certs)
		if err == nil {
			return s
		}
		if try == 3 {
			t.Fatal(err)
		}
	}
}

// run starts the program and waits until it answers.
func (s *Server) run(t testing.TB, address, iam, certs string) error {
	s.URL = "http://" + address
	if certs != "" {
		s.URL = "https://" + address
	}
	var args, env []string
	switch s.Kind {
	case Versitygw:
		args = []string{"--port", address, "--quiet", "--keep-alive", "--iam-dir", iam}
		if certs != "" {
			args = append(args, "--cert", s.CAFile, "--key", filepath.Join(certs, "private.key"))
		}
		args = append(args, "posix", s.Dir)
		env = []string{"ROOT_ACCESS_KEY=" + s.AccessKey, "ROOT_SECRET_KEY=" + s.SecretKey}
	case MinIO:
		args = []string{"server", "--quiet", "--address", address}
		if certs != "" {
			args = append(args, "--certs-dir", certs)
		}
		args = append(args, s.Dir)
		env = []string{"MINIO_ROOT_USER=" + s.AccessKey, "MINIO_ROOT_PASSWORD=" + s.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=1"}
	}
	var output bytes.Buffer
	cmd := exec.Command(s.path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	core := s.Client(t)
	ctx, end := context.WithTimeout(t.Context(), time.Minute)
	defer end()
	for {
		_, err := core.ListBuckets(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s has ended: %v: %s", s.Kind, cmd.ProcessState, output.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", s.Kind, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Certificate makes public.crt and private.key for 127.0.0.1 in a directory.
func Certificate(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(crand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "public.crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644),
		os.WriteFile(filepath.Join(dir, "private.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
}

// Client is one who may do everything.
func (s *Server) Client(t testing.TB) *minio.Core {
	t.Helper()
	o := &minio.Options{Creds: credentials.NewStaticV4(s.AccessKey, s.SecretKey, ""), Region: "us-east-1", BucketLookup: minio.BucketLookupPath, MaxRetries: 1}
	host := strings.TrimPrefix(s.URL, "http://")
	if s.CAFile != "" {
		content, err := os.ReadFile(s.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		transport, err := minio.DefaultTransport(true)
		if err != nil {
			t.Fatal(err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(content)
		o.Secure, o.Transport = true, transport
		host = strings.TrimPrefix(s.URL, "https://")
	}
	core, err := minio.NewCore(host, o)
	if err != nil {
		t.Fatal(err)
	}
	return core
}

// Bucket makes a new bucket.
func (s *Server) Bucket(t testing.TB) string { return s.bucket(t, minio.MakeBucketOptions{}) }

// LockedBucket makes a new bucket in which objects can be locked.
func (s *Server) LockedBucket(t testing.TB) string {
	return s.bucket(t, minio.MakeBucketOptions{ObjectLocking: true})
}

func (s *Server) bucket(t testing.TB, o minio.MakeBucketOptions) string {
	t.Helper()
	name := "test-" + strings.ToLower(crand.Text())
	if err := s.Client(t).MakeBucket(t.Context(), name, o); err != nil {
		t.Fatal(err)
	}
	return name
}

// Options open a bucket of the server with the rights to do everything, quickly.
func (s *Server) Options(t testing.TB, bucket string) s3.Options {
	return s3.Options{Endpoint: s.URL, Bucket: bucket, CAFile: s.CAFile, Credentials: "file", CredentialsFile: KeyFile(t, s.AccessKey, s.SecretKey, "")}
}

// KeyFile writes a file with credentials.
func KeyFile(t testing.TB, access, secret, token string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	content := fmt.Sprintf("access-key = %s\nsecret-key = %s\n", access, secret)
	if token != "" {
		content += "session-token = " + token + "\n"
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Limited returns a file with the credentials of one who may do these actions alone, such as s3:PutObject, in a bucket.
func (s *Server) Limited(t testing.TB, bucket string, actions ...string) string {
	t.Helper()
	list := `["` + strings.Join(actions, `","`) + `"]`
	resources := fmt.Sprintf(`["arn:aws:s3:::%s","arn:aws:s3:::%s/*"]`, bucket, bucket)
	if s.Kind == MinIO {
		v, err := credentials.NewSTSAssumeRole(s.URL, credentials.STSAssumeRoleOptions{AccessKey: s.AccessKey, SecretKey: s.SecretKey,
			Policy: fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":%s,"Resource":%s}]}`, list, resources)})
		if err != nil {
			t.Fatal(err)
		}
		value, err := v.GetWithContext(&credentials.CredContext{Client: http.DefaultClient})
		if err != nil {
			t.Fatal(err)
		}
		return KeyFile(t, value.AccessKeyID, value.SecretAccessKey, value.SessionToken)
	}
	access, secret := "limited-"+crand.Text(), "secret-"+crand.Text()
	cmd := exec.Command(s.path, "admin", "--endpoint-url", s.URL, "create-user", "--access", access, "--secret", secret, "--role", "user")
	cmd.Env = append(os.Environ(), "ADMIN_ACCESS_KEY_ID="+s.AccessKey, "ADMIN_SECRET_ACCESS_KEY="+s.SecretKey)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	policy := fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":[%q]},"Action":%s,"Resource":%s}]}`, access, list, resources)
	if err := s.Client(t).PutBucketPolicy(t.Context(), bucket, policy); err != nil {
		t.Fatal(err)
	}
	return KeyFile(t, access, secret, "")
}

// Sign signs a changed request again, for a proxy.
func (s *Server) Sign(r *http.Request) {
	r.Header.Del("Authorization")
	*r = *signer.SignV4(*r, s.AccessKey, s.SecretKey, "", "us-east-1")
}
