package main_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/storage/s3/s3test"
)

// A bucket is a repository on an S3 server, behind a proxy that disturbs requests.
type bucket struct {
	*faultproxy.Proxy
	section string // of a configuration file
	direct  string // the same without the proxy
}

// newBucket starts an S3 server for a repository with this name. dir is where the file with its keys is made.
func newBucket(t testing.TB, name, dir string) *bucket {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("versitygw is a program for Unix")
	}
	s := s3test.Start(t, s3test.Versitygw)
	p := faultproxy.Start(t, s.URL)
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, fmt.Appendf(nil, "access-key = %s\nsecret-key = %s\n", s.AccessKey, s.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	section := fmt.Sprintf("[repository %s]\nurl = s3://%s/far\ncredentials-file = %s\ntimeout = 1s\nendpoint = ", name, s.Bucket(t), keys)
	return &bucket{p, section + p.URL + "\n", section + s.URL + "\n"}
}

// fill copies what a spool holds into the bucket.
func (b *bucket) fill(t testing.TB, spool, dir string) {
	t.Helper()
	file := filepath.Join(dir, "ship.ini")
	cmdtest.Write(t, file, []byte("spool = "+spool+"\n"+b.direct))
	cmd := cmdtest.Command("supervisor", "-c", file, "ship")
	if r := cmdtest.Run(t, cmd); r.Code != 0 {
		t.Fatalf("ship: exit code %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// newFarBucket has one repository, in a bucket, with these files.
func newFarBucket(t testing.TB, archived cmdtest.Files, ahead string) (*far, *bucket) {
	t.Helper()
	f := newFar(t, archived, "a")
	b := newBucket(t, "a", f.dir)
	b.fill(t, string(f.repos[0].spool), f.dir)
	cmdtest.Write(t, f.config, []byte("prefetch = "+ahead+"\n"+b.section))
	return f, b
}

// TestFarBucket delivers from a bucket, and says "absent" only after the bucket has answered for that very name.
func TestFarBucket(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	f, b := newFarBucket(t, files, "0")
	for name, content := range files {
		f.deliver(t, name, content)
	}
	const absent = "00000003000000000000001F"
	f.run(t, absent).Expect(t, 1, absent+saysAbsent)
	f.run(t, "00000004.history").Expect(t, 1, saysAbsent)
	f.run(t, "00000001000000000000000B").Expect(t, 126, saysGap)
	b.Do(func(int, *http.Request) faultproxy.Fault { return faultproxy.ForeignPage })
	f.run(t, absent).Expect(t, 126)
}

// faultCount is how many requests are disturbed.
func faultCount(t testing.TB, usual int) int {
	n, err := strconv.Atoi(os.Getenv("WALKEEP_FAULTS"))
	if err != nil {
		return usual
	}
	return n
}

// TestFarFaults disturbs the requests of a server that recovers from a bucket. Whatever happens, what is delivered is right, and
// nothing is said to be absent that is there.
func TestFarFaults(t *testing.T) {
	t.Parallel()
	files := cmdtest.WAL(t, "15")
	random := cmdtest.Rand(t)
	f, b := newFarBucket(t, files, "2MB")
	f.recovers(t, files)
	const absent = "00000003000000000000001F"
	names := append(files.Names(), absent, "00000004.history", "00000001000000000000000B")
	kinds := []faultproxy.Fault{faultproxy.Hang, faultproxy.Reset, faultproxy.Status500, faultproxy.CutAnswer, faultproxy.ForeignPage, faultproxy.Delay, faultproxy.Status503}
	count := make(map[int]int)
	for disturbed := 0; disturbed < faultCount(t, 20) && !t.Failed(); {
		name := names[random.IntN(len(names))]
		b.Do(outage(random, kinds, &disturbed))
		r := f.run(t, name)
		want, there := files[name]
		switch {
		case r.Code == 0 && there:
			f.wantTarget(t, name, want)
		case r.Code == 1 && !there && name != "00000001000000000000000B", r.Code == 126:
		default:
			t.Errorf("%s: exit code %d\n%s", name, r.Code, r.Stderr)
		}
		count[r.Code]++
	}
	t.Logf("exit codes: %v", count)
}

// outage makes some of the requests of one call fail: one of them, or all from one on, as if the store had gone.
func outage(random *rand.Rand, kinds []faultproxy.Fault, disturbed *int) faultproxy.Plan {
	fault, from, forever := kinds[random.IntN(len(kinds))], 1+random.IntN(12), random.IntN(10) == 0
	return func(n int, _ *http.Request) faultproxy.Fault {
		if n == from || forever && n > from {
			if n == from {
				*disturbed++
			}
			return fault
		}
		return faultproxy.None
	}
}
