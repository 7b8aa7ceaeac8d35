package ship_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/storage/retry"
	"walkeep/common/storage/s3"
	"walkeep/common/storage/s3/s3test"
	"walkeep/common/wal"
)

// onS3 makes a repository in a bucket, whose requests pass through the proxy.
func onS3(t *testing.T) (p *place, direct *place, proxy *faultproxy.Proxy) {
	t.Helper()
	server := s3test.Start(t, s3test.Versitygw)
	proxy = faultproxy.Start(t, server.URL)
	o := server.Options(t, server.Bucket(t))
	open := func(endpoint string) *s3.Backend {
		o.Endpoint, o.Timeout, o.RetryFor = endpoint, time.Second, 200*time.Millisecond
		b, err := s3.Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	return newPlace("far", retry.New(open(proxy.URL), 10*time.Millisecond, 200*time.Millisecond)), newPlace("far", open(server.URL)), proxy
}

// In the steady state a segment is one PUT on S3, too, and an idle repository gets at most one request a minute.
func TestOnePutOnS3(t *testing.T) {
	r := newRig(t)
	r.segments(1, 3)
	p, _, proxy := onS3(t)
	stop := r.follow(p)
	r.wait("what was there is shipped", func() bool { return r.note("far").Mark(1) == wal.LSN(3*segmentSize) })
	proxy.Do(nil)
	r.segments(3, 20)
	r.wait("the rest is shipped", func() bool { return r.note("far").Mark(1) == wal.LSN(20*segmentSize) })
	stop()
	log := proxy.Log()
	for _, request := range log {
		if !strings.HasPrefix(request, "PUT ") {
			t.Errorf("got %s", request)
		}
	}
	if len(log) != 17 {
		t.Errorf("17 segments took %d requests: %q", len(log), log)
	}
}

// Through a bad network every object arrives once and whole. WALKEEP_SHIP_OBJECTS says how many there are.
func TestBadNetwork(t *testing.T) {
	last := uint64(61)
	if n, err := strconv.ParseUint(os.Getenv("WALKEEP_SHIP_OBJECTS"), 10, 32); err == nil {
		last = n + 1
	}
	r := newRig(t)
	r.keep = 0
	p, direct, proxy := onS3(t)
	proxy.Do(faultproxy.Seeded(11, 0.3, faultproxy.Transient...))
	stop := r.follow(p)
	r.segments(1, last)
	r.patience = 10 * time.Minute
	r.wait("everything is shipped and has left the spool", func() bool {
		return r.note("far").Mark(1) == wal.LSN(last*uint64(segmentSize)) && !r.inSpool(object(last-1))
	})
	stop()
	direct.holds(t, 1, last)
	if got := len(direct.names(t)); got != int(last) {
		t.Errorf("the repository holds %d objects instead of %d", got, last)
	}
	if n := r.note("far"); len(n.Stuck) > 0 {
		t.Errorf("stuck: %+v", n.Stuck)
	}
}

// A store that hangs is given up in time, and shipping goes on where it answers again.
func TestHangingS3(t *testing.T) {
	r := newRig(t)
	r.segments(1, 4)
	p, direct, proxy := onS3(t)
	proxy.Do(faultproxy.At(9, faultproxy.Hang))
	stop := r.follow(p)
	r.wait("everything is shipped", func() bool { return r.note("far").Mark(1) == wal.LSN(4*segmentSize) })
	stop()
	direct.holds(t, 1, 4)
	if _, err := direct.archive().Identity(t.Context()); err != nil || errors.Is(err, archive.ErrUnbound) {
		t.Error(err)
	}
}
