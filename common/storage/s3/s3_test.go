package s3_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"walkeep/common/cmdtest"
	"walkeep/common/storage"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/storage/generation"
	"walkeep/common/storage/retry"
	"walkeep/common/storage/s3"
	"walkeep/common/storage/s3/s3test"
	"walkeep/common/storage/storagetest"
)

// TestMain silences net/http, which logs what versitygw sends after it has refused an object without reading its bytes.
func TestMain(m *testing.M) {
	log.SetOutput(io.Discard)
	minio.DefaultRetryUnit = time.Millisecond // for which it waits after a request that failed, even the last
	if options := os.Getenv(helper); options != "" {
		helperMain(options)
	}
	m.Run()
}

// eachKind runs a test on a server of each kind.
func eachKind(t *testing.T, test func(t *testing.T, s *s3test.Server)) {
	for _, kind := range s3test.Kinds() {
		t.Run(kind, func(t *testing.T) { test(t, s3test.Start(t, kind)) })
	}
}

func open(t *testing.T, o s3.Options) *s3.Backend {
	t.Helper()
	b, err := s3.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// put stores an object with a callback that must not be called: the servers confirm checksums.
func put(t *testing.T, b storage.Backend, name, content string) error {
	t.Helper()
	return storage.Put(t.Context(), b, name, text(content), func(io.Reader) error {
		t.Errorf("%s is read back", name)
		return nil
	})
}

func text(content string) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, content)
		return err
	}
}

func want(t *testing.T, b storage.Backend, name, content string) {
	t.Helper()
	got, err := storage.ReadAll(t.Context(), b, name, 1<<30)
	if err != nil || string(got) != content {
		t.Errorf("%s: got %d bytes, %v, want %d", name, len(got), err, len(content))
	}
}

var suite = storagetest.Options{NoReadBack: true, Confirms: true, SilentRemove: true, Requests: 6000}

func TestConformance(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		options := suite
		options.Remnants = s.Kind == s3test.MinIO // seen with the version of scripts/fetch-minio
		storagetest.Run(t, options, func(t *testing.T) storage.Backend {
			o := s.Options(t, s.Bucket(t))
			o.Prefix, o.PartSize = "some/where", 5<<20
			return open(t, o)
		})
	})
}

// A store that does not answer with checksums is read back.
func TestConformanceReadBack(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	p.Change(nil, func(r *http.Response) {
		if strings.Contains(r.Request.URL.RawQuery, "partNumber") {
			return // or versitygw would not complete the upload
		}
		r.Header.Del("x-amz-checksum-sha256")
		if strings.Contains(r.Request.URL.RawQuery, "uploadId") && r.Request.Method == http.MethodPost {
			content, _ := io.ReadAll(r.Body)
			before, rest, found := strings.Cut(string(content), "<ChecksumSHA256>")
			if _, after, ok := strings.Cut(rest, "</ChecksumSHA256>"); found && ok {
				content = []byte(before + after)
			}
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(string(content))), int64(len(content))
			r.Header.Del("Content-Length")
		}
	})
	o := suite
	o.Confirms = false
	storagetest.Run(t, o, func(t *testing.T) storage.Backend {
		o := s.Options(t, s.Bucket(t))
		o.Endpoint, o.PartSize = p.URL, 5<<20
		return open(t, o)
	})
}

// A store without conditional creation keeps generations.
func TestConformanceGenerations(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	p.Change(func(r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			r.Header.Del("If-None-Match")
			s.Sign(r)
		}
	}, nil)
	o := suite
	o.ManyWinners, o.NoSpaces, o.SilentRemove = true, true, false
	storagetest.Run(t, o, func(t *testing.T) storage.Backend {
		o := s.Options(t, s.Bucket(t))
		o.Endpoint, o.PartSize, o.Unconditional = p.URL, 5<<20, true
		b := open(t, o)
		if ok, err := b.Conditional(t.Context()); ok || err != nil {
			t.Errorf("conditional: got %v, %v", ok, err)
		}
		return generation.New(b)
	})
}

// Behind the decorator that repeats other calls, the contract holds on a bad network.
func TestConformanceFaults(t *testing.T) {
	cmdtest.Long(t)
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	p.Do(faultproxy.Seeded(1, 0.1, append(faultproxy.Transient, faultproxy.WrongRequest)...))
	o := suite
	storagetest.Run(t, o, func(t *testing.T) storage.Backend {
		o := s.Options(t, s.Bucket(t))
		b := open(t, o) // the probe of Open is not repeated
		b.Close()
		o.Endpoint, o.PartSize = p.URL, 5<<20
		for {
			if b, err := s3.Open(t.Context(), o); err == nil {
				t.Cleanup(func() { b.Close() })
				return retry.New(b, time.Millisecond, time.Minute)
			}
		}
	})
}

// requests returns what a proxy has seen, without the names of keys and uploads.
func requests(p *faultproxy.Proxy) string {
	var short []string
	for _, line := range p.Log() {
		method, rest, _ := strings.Cut(line, " ")
		path, query, _ := strings.Cut(rest, "?")
		switch {
		case strings.HasPrefix(query, "uploads"):
			method += " uploads"
		case strings.Contains(query, "partNumber"):
			method += " part"
		case strings.Contains(query, "uploadId"):
			method += " upload"
		case strings.Contains(query, "list-type"):
			method = "LIST"
		case strings.Contains(query, "delete"):
			method = "DELETE many"
		case strings.HasSuffix(path, ".conditional"):
			method += " probe"
		}
		short = append(short, method)
	}
	return strings.Join(short, ", ")
}

// What each call costs.
func TestRequests(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		p := faultproxy.Start(t, s.URL)
		o := s.Options(t, s.Bucket(t))
		o.Endpoint, o.PartSize = p.URL, 5<<20
		b := open(t, o)
		if got := requests(p); got != "LIST" {
			t.Errorf("open: %s", got)
		}
		p.Do(nil)
		if err := put(t, b, "wal/first", "first"); err != nil {
			t.Fatal(err)
		}
		if got := requests(p); got != "PUT probe, PUT probe, PUT" {
			t.Errorf("the first object: %s", got)
		}
		big := strings.Repeat("0123456789", 1_200_000)
		for _, test := range []struct {
			what, want string
			do         func() error
		}{
			{"a small object", "PUT", func() error { return put(t, b, "wal/small", "small") }},
			{"an empty object", "PUT", func() error { return put(t, b, "wal/empty", "") }},
			{"an object of known size", "PUT", func() error {
				w, err := b.Create(t.Context(), "wal/known", storage.CreateOptions{Size: int64(len(big))})
				if err != nil {
					return err
				}
				defer w.Discard()
				if _, err := io.WriteString(w, big); err != nil {
					return err
				}
				return w.Commit(t.Context())
			}},
			{"the first in parts", "PUT probe, POST uploads, PUT part, POST upload, DELETE upload, POST uploads, PUT part, PUT part, PUT part, POST upload",
				func() error { return put(t, b, "wal/big1", big) }},
			{"another in parts", "POST uploads, PUT part, PUT part, PUT part, POST upload", func() error { return put(t, b, "wal/big2", big) }},
			{"a note", "PUT", func() error { return b.Replace(t.Context(), "notes/x", []byte("x")) }},
			{"read a small one", "GET", func() error { want(t, b, "wal/small", "small"); return nil }},
			{"read a big one", "GET, GET", func() error { want(t, b, "wal/big1", big); return nil }},
			{"open what is not there", "GET", func() error {
				if _, err := b.Open(t.Context(), "wal/nothing"); !errors.Is(err, storage.ErrNotExist) {
					return fmt.Errorf("got %w, want ErrNotExist", err)
				}
				return nil
			}},
			{"what is taken", "PUT, HEAD", func() error {
				if err := put(t, b, "wal/small", "other"); !errors.Is(err, storage.ErrExist) {
					return fmt.Errorf("got %w, want ErrExist", err)
				}
				return nil
			}},
			{"list", "LIST", func() error { _, err := storage.ListAll(t.Context(), b, "wal/"); return err }},
			{"remove one", "DELETE", func() error { return b.Remove(t.Context(), "wal/big1") }},
			{"remove many", "DELETE, DELETE many", func() error { return b.Remove(t.Context(), "wal/small", "wal/known", "wal/big2", "wal/first") }},
		} {
			p.Do(nil)
			if err := test.do(); err != nil {
				t.Errorf("%s: %v", test.what, err)
			}
			if got := requests(p); got != test.want {
				t.Errorf("%s: got %s, want %s", test.what, got, test.want)
			}
		}
	})
}

// Every request of an object's life meets every fault, and nothing is lost, doubled or wrong.
func TestEachFault(t *testing.T) {
	cmdtest.Long(t)
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	o := s.Options(t, s.Bucket(t))
	o.Endpoint, o.PartSize, o.Timeout = p.URL, 5<<20, time.Second
	b := open(t, o)
	if ok, err := b.Conditional(t.Context()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if err := put(t, b, "first", "x"); err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("0123456789", 550_000)
	if err := put(t, b, "second", big); err != nil { // the backend now trusts both conditions
		t.Fatal(err)
	}
	faults := append([]faultproxy.Fault{faultproxy.Hang, faultproxy.WrongRequest, faultproxy.Conflict}, faultproxy.Transient...)
	for size, content := range map[string]string{"small": "content", "big": big} {
		requests := map[string]int{"small": 1, "big": 4}[size]
		for n := 1; n <= requests; n++ {
			for _, f := range faults {
				name := fmt.Sprintf("%s/%d/%d", size, n, f)
				p.Do(faultproxy.At(n, f))
				if err := put(t, b, name, content); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				p.Do(nil)
				want(t, b, name, content)
			}
		}
	}
}

// With the answer lost each time, Commit finds its own object, and another writer's is not taken for it.
func TestLostAnswer(t *testing.T) {
	eachKind(t, func(t *testing.T, s *s3test.Server) {
		p := faultproxy.Start(t, s.URL)
		o := s.Options(t, s.Bucket(t))
		o.Endpoint = p.URL
		b := open(t, o)
		if err := put(t, b, "first", "x"); err != nil {
			t.Fatal(err)
		}
		p.Do(faultproxy.At(1, faultproxy.LostAnswer))
		if err := put(t, b, "mine", "content"); err != nil {
			t.Errorf("got %v, want that the object is found", err)
		}
		if got := requests(p); got != "PUT, PUT, HEAD" {
			t.Errorf("got %s", got)
		}
		p.Do(faultproxy.At(1, faultproxy.LostAnswer))
		if err := put(t, b, "mine", "content"); !errors.Is(err, storage.ErrExist) {
			t.Errorf("got %v, want ErrExist", err)
		}
		// A store that is gone while it has to be asked whose object it is, gives no ErrExist.
		o.RetryFor = 100 * time.Millisecond
		b = open(t, o)
		if err := put(t, b, "third", "x"); err != nil {
			t.Fatal(err)
		}
		p.Do(func(n int, r *http.Request) faultproxy.Fault {
			if r.Method == http.MethodHead {
				return faultproxy.Reset
			}
			return faultproxy.None
		})
		if err := put(t, b, "mine", "content"); err == nil || errors.Is(err, storage.ErrExist) {
			t.Errorf("got %v, want another error than ErrExist", err)
		}
	})
}

// A store that answers nothing but that another request is on its way leaves the caller in doubt, or shows the other's object.
func TestConflict(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	o := s.Options(t, s.Bucket(t))
	o.Endpoint, o.PartSize, o.RetryFor = p.URL, 5<<20, 50*time.Millisecond
	b := open(t, o)
	big := strings.Repeat("x", 6<<20)
	if err := errors.Join(put(t, b, "small", "x"), put(t, b, "big", big)); err != nil {
		t.Fatal(err)
	}
	p.Do(func(_ int, r *http.Request) faultproxy.Fault {
		if r.Header.Get("If-None-Match") != "" {
			return faultproxy.Conflict
		}
		return faultproxy.None
	})
	for name, content := range map[string]string{"small": "y", "big": big} {
		if err := put(t, b, name, content); !errors.Is(err, storage.ErrExist) {
			t.Errorf("%s: got %v, want ErrExist", name, err)
		}
		if err := put(t, b, name+"2", content); err == nil || errors.Is(err, storage.ErrExist) || errors.Is(err, storage.ErrNotExist) {
			t.Errorf("%s2: got %v, want that nothing is known", name, err)
		}
	}
}

// A store that hangs ends each call.
func TestHang(t *testing.T) {
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	o := s.Options(t, s.Bucket(t))
	o.Endpoint, o.Timeout, o.RetryFor = p.URL, 200*time.Millisecond, 200*time.Millisecond
	b := open(t, o)
	if err := put(t, b, "first", "x"); err != nil {
		t.Fatal(err)
	}
	p.Do(func(int, *http.Request) faultproxy.Fault { return faultproxy.Hang })
	_, errOpen := s3.Open(t.Context(), o)
	_, errGet := b.Open(t.Context(), "first")
	_, errList := storage.ListAll(t.Context(), b, "")
	for what, err := range map[string]error{"Open": errOpen, "get": errGet, "list": errList, "put": put(t, b, "name", "x"),
		"remove": b.Remove(t.Context(), "first"), "replace": b.Replace(t.Context(), "note", nil)} {
		if err == nil || !strings.Contains(err.Error(), "nothing for 200ms") {
			t.Errorf("%s: got %v, want that nothing was sent", what, err)
		}
	}
	// A call ends with its context before that.
	ctx, end := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer end()
	if _, err := storage.ListAll(ctx, b, ""); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("list: got %v, want that the context has ended", err)
	}
}
