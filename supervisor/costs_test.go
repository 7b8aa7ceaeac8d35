//go:build linux

package main_test

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/common/storage/faultproxy"
	"walkeep/common/wal"
)

// A vast bucket is an S3 server that has one archive, of an hourly backup over more than a year and of a million segments. It makes
// its names and manifests when they are asked for, lists them as S3 does, and takes no object.
type vast struct {
	backups, segments int
	url               string

	mu       sync.Mutex
	requests requests
}

const (
	vastFirst    = 0x100 // number of the first segment
	vastIdentity = "archive.json"
)

var vastBegan = time.Date(2025, 9, 1, 0, 30, 0, 0, time.UTC)

func (v *vast) start(t *testing.T) {
	server := httptest.NewServer(v)
	t.Cleanup(server.Close)
	v.url = server.URL
}

func (v *vast) id(i int) string { return backup.NewID(vastBegan.Add(time.Duration(i)*time.Hour), 1) }

// objects of a backup, ascending.
var vastObjects = []string{"data-0001.tar.zst", "files.json.zst", backup.ManifestName}

func (v *vast) count() int { return 1 + len(vastObjects)*v.backups + v.segments }

// name returns the i-th name in the order of a listing.
func (v *vast) name(i int) string {
	if i--; i < 0 {
		return vastIdentity
	}
	if n := len(vastObjects); i < n*v.backups {
		return backup.Dir(v.id(i/n)) + vastObjects[i%n]
	}
	n := v.segment(i - len(vastObjects)*v.backups)
	return fmt.Sprintf("wal/%s/%s.zst", n.String()[:16], n)
}

func (v *vast) segment(i int) wal.Name {
	return wal.SegmentAt(1, wal.LSN(uint64(vastFirst+i)*uint64(size)), size)
}

func (v *vast) size(i int, name string) int {
	switch {
	case !strings.HasSuffix(name, ".zst"):
		return len(v.content(name))
	case strings.HasPrefix(name, "wal/"):
		return 5_000_000 + i%1000
	}
	return 1
}

// content returns the content of the identity or of a manifest.
func (v *vast) content(name string) []byte {
	if name == vastIdentity {
		return fmt.Appendf(nil, `{"version":1,"system_identifier":"%s","segment_size":%d}`, system, size)
	}
	id := strings.TrimSuffix(strings.TrimPrefix(name, "backups/"), "/"+backup.ManifestName)
	began, err := backup.Began(id)
	i := int(began.Sub(vastBegan) / time.Hour)
	if err != nil || i < 0 || i >= v.backups || v.id(i) != id {
		return nil
	}
	start, err := v.segment(i * (v.segments - 1) / v.backups).Start(size)
	if err != nil {
		return nil
	}
	m := &backup.Manifest{
		Version: backup.Version, ID: id, Type: "full", Codec: "zstd", SystemID: system, SegmentSize: size, Timeline: 1,
		Start: start + 0x28, Stop: start + 0x128, Began: began, Ended: began.Add(time.Minute), Files: 1000, Bytes: 1 << 30,
		Index:   backup.Stored{Name: "files.json.zst", Plain: 1, Stored: 1},
		Volumes: []backup.Stored{{Name: "data-0001.tar.zst", Plain: 1, Stored: 1, SHA256: fmt.Sprintf("%064x", i)}},
	}
	content, err := m.Encode()
	if err != nil {
		return nil
	}
	return content
}

// ServeHTTP implements [http.Handler].
func (v *vast) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	v.requests.add(r.Method + " " + r.URL.RequestURI())
	v.mu.Unlock()
	key := strings.TrimPrefix(strings.TrimPrefix(r.URL.Path, "/vast"), "/")
	q := r.URL.Query()
	switch {
	case r.Method == http.MethodGet && q.Has("list-type"):
		v.list(w, q.Get("prefix"), max(q.Get("start-after"), q.Get("continuation-token")), q.Get("delimiter"), q.Get("max-keys"))
	case r.Method == http.MethodGet && (key == vastIdentity || strings.HasSuffix(key, backup.ManifestName)) && v.content(key) != nil:
		content := v.content(key)
		sum := md5.Sum(content)
		w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
		w.Header().Set("Last-Modified", vastBegan.Format(http.TimeFormat))
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(content)-1, len(content)))
		w.WriteHeader(http.StatusPartialContent)
		w.Write(content)
	case r.Method == http.MethodGet:
		vastError(w, http.StatusNotFound, "NoSuchKey")
	default:
		vastError(w, http.StatusForbidden, "AccessDenied")
	}
}

func vastError(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>no</Message></Error>", code)
}

func (v *vast) list(w io.Writer, prefix, after, delimiter, most string) {
	limit, err := strconv.Atoi(most)
	if err != nil || limit > 1000 {
		limit = 1000
	}
	behind := func(name string) int { return sort.Search(v.count(), func(i int) bool { return v.name(i) > name }) }
	from := sort.Search(v.count(), func(i int) bool { return v.name(i) >= prefix })
	if after != "" {
		from = max(from, behind(after))
	}
	var page strings.Builder
	n, last := 0, ""
	more := false
	for from < v.count() {
		name := v.name(from)
		if !strings.HasPrefix(name, prefix) {
			break
		}
		if more = n == limit; more {
			break
		}
		dir, _, below := strings.Cut(name[len(prefix):], "/")
		if n++; delimiter != "" && below {
			dir = prefix + dir + "/"
			fmt.Fprintf(&page, "<CommonPrefixes><Prefix>%s</Prefix></CommonPrefixes>", dir)
			from, last = behind(dir+"\xff"), dir+"\xff"
			continue
		}
		fmt.Fprintf(&page, `<Contents><Key>%s</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>"%032x"</ETag><Size>%d</Size></Contents>`, name, from, v.size(from, name))
		from, last = from+1, name
	}
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>vast</Name><IsTruncated>%t</IsTruncated>`, more)
	if more {
		fmt.Fprintf(w, "<NextContinuationToken>%s</NextContinuationToken>", strings.ToValidUTF8(last, "~"))
	}
	fmt.Fprintf(w, "%s</ListBucketResult>", page.String())
}

// take returns the requests since the last call.
func (v *vast) take() requests {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.requests
	v.requests = requests{}
	return r
}

// requests are counted by what a store charges for.
type requests struct {
	put, get, head, list, remove int
	log                          []string
}

// add counts one that is given as "METHOD /path?query".
func (r *requests) add(request string) {
	method, target, _ := strings.Cut(request, " ")
	switch {
	case method == http.MethodPut:
		r.put++
	case method == http.MethodPost && strings.Contains(target, "?delete"), method == http.MethodDelete:
		r.remove++
	case method == http.MethodPost: // the beginning and the completion of an upload in parts
		r.put++
	case method == http.MethodHead:
		r.head++
	case strings.Contains(target, "list-type="), strings.Contains(target, "?uploads"):
		r.list++
	default:
		r.get++
	}
	if len(r.log) < 100 {
		r.log = append(r.log, request)
	}
}

func (r requests) sum() int { return r.put + r.get + r.head + r.list + r.remove }

func (r requests) String() string {
	return fmt.Sprintf("%d | %d | %d | %d | %d", r.put, r.get, r.head, r.list, r.remove)
}

// A costs page is a table of requests.
type costs struct {
	t    *testing.T
	page strings.Builder
}

func (c *costs) section(text string) { c.page.WriteString(text) }

func (c *costs) row(what string, r requests) {
	c.t.Logf("%s: %s: %q", what, r, r.log)
	fmt.Fprintf(&c.page, "| %s | %s |\n", what, r)
}

// atMost is row for what takes a few requests more or less from one time to the next: the page gets the bounds.
func (c *costs) atMost(what string, r, bound requests) {
	c.t.Helper()
	c.t.Logf("%s: %s: %q", what, r, r.log)
	if r.put > bound.put || r.get > bound.get || r.head > bound.head || r.list > bound.list || r.remove > bound.remove {
		c.t.Errorf("%s took %s requests, want at most %s: %q", what, r, bound, r.log)
	}
	fmt.Fprintf(&c.page, "| %s: at most | %s |\n", what, bound)
}

const costsHead = `# What requests cost

Object stores charge for requests. These are those of walkeep on S3, counted by a test on the way to the server; the test writes this page
(` + "`" + `go test ./supervisor -run TestCosts -update` + "`" + `). PUT includes the requests that begin and complete an upload in parts. For example,
at 5 dollars for a million PUT or LIST and 0.40 dollars for a million GET, a segment a minute costs 22 cents a month.

| | PUT | GET | HEAD | LIST | DELETE |
|---|--:|--:|--:|--:|--:|
`

const costsSmall = `
` + "`" + `backup` + "`" + ` and ` + "`" + `restore` + "`" + ` are those of a small cluster, whose backup is one volume. A volume larger than 16 MiB is an upload in parts: a PUT for
each 16 MiB, and two more. A restore takes one GET for each run of chunks that it needs of a volume. A command that works for
longer renews its lease: a GET and a PUT a minute. While a backup waits for its last WAL it asks twice a second.

An hour without WAL is that of ` + "`" + `run` + "`" + `: shipping asks each minute whether the repository is there, and with ` + "`" + `metrics-listen` + "`" + ` or scheduled
backups the archive is inspected every ten minutes. Together these are less than two requests a minute.

Before WAL leaves the spool, each of its directories is listed in the repository. This is done for a sixteenth of ` + "`" + `spool-keep` + "`" + ` at once,
or 64 MB by default: one LIST for about 16 segments that are stored in 4 MB each.

A standby that gets WAL from the repository alone looks for more of it each ` + "`" + `wal_retrieve_retry_interval` + "`" + `: it asks for the next segment, and for
the history of a new timeline. What is not there is proven to be absent each time. At the default of 5 seconds that is about 70 dollars
a month, and at a minute 6. A standby that also streams from its primary does not ask.

The piece of the open segment that is stored every ` + "`" + `partial-interval` + "`" + ` while the server writes is one PUT. When the segment is stored, its
pieces are removed, up to 1,000 with one request. Where the credential may not remove, they stay until cleanup.

## 10,000 backups and 1,000,000 segments

| | PUT | GET | HEAD | LIST | DELETE |
|---|--:|--:|--:|--:|--:|
`

const costsEnd = `
A page of a listing has 1,000 names. The first ` + "`" + `list` + "`" + ` of a host lists everything and reads each manifest. What does not change
any more is kept in ` + "`" + `cache-dir` + "`" + `, and listed anew, without the manifests, once a day and after a cleanup has removed something;
[repositories.md](repositories.md) has the rules. ` + "`" + `status` + "`" + ` and ` + "`" + `run` + "`" + ` list as ` + "`" + `list` + "`" + ` does. ` + "`" + `check` + "`" + ` lists everything, because it is
asked whether anything is missing: let the monitoring of such an archive read the metrics of ` + "`" + `run` + "`" + `. So do ` + "`" + `restore` + "`" + `, ` + "`" + `drill` + "`" + `, ` + "`" + `promote` + "`" + ` and
` + "`" + `rejoin` + "`" + `: here a thousand LIST, which is half a cent. ` + "`" + `verify` + "`" + ` and ` + "`" + `cleanup` + "`" + ` list each directory by itself, and each backup's: here about
14,000 LIST, and a GET for each manifest.

Each note of ` + "`" + `verify` + "`" + ` and ` + "`" + `drill` + "`" + ` on a backup is one name more in the listing, and one GET after it has changed.
`

// costsOfVast are the requests of commands on a repository with 10,000 backups and 1,000,000 segments. They are computed, and the same
// computation is held against what a smaller one takes, or with WALKEEP_LONG=1 one of that size.
func costsOfVast(t *testing.T, page *costs) {
	cold := func(v *vast) requests { return requests{get: 5 + v.backups, list: 2 + (v.count()+999)/1000} }
	warm := requests{get: 4, list: 5}
	full := &vast{backups: 10_000, segments: 1_000_000}
	page.row("the first `list`", cold(full))
	page.row("`list` after that", warm)

	v := &vast{backups: 400, segments: 20_000}
	if os.Getenv("WALKEEP_LONG") != "" {
		v = full
	}
	v.start(t)
	cache := t.TempDir()
	list := func(want requests) string {
		t.Helper()
		cmd := cmdtest.Command("supervisor", "-c", os.DevNull, "--repo-url", "s3://vast", "list")
		cmd.Env = append(cmd.Env, "GOMAXPROCS=2", "AWS_ACCESS_KEY_ID=any", "AWS_SECRET_ACCESS_KEY=any", "WALKEEP_REPO_ENDPOINT="+v.url, "WALKEEP_REPO_CACHE_DIR="+cache)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if r := v.take(); r.String() != want.String() {
			t.Errorf("list took %s requests, want %s: %q", r, want, r.log)
		}
		return string(out)
	}
	first := list(cold(v))
	if second := list(warm); first != second {
		t.Error("list prints something else with what was kept")
	}
	if want := fmt.Sprint(v.segment(v.segments - 1)); !strings.Contains(first, want) {
		t.Errorf("list does not name %s", want)
	}
	if warm.sum() > 15 {
		t.Errorf("list takes %d requests, want at most 15", warm.sum())
	}
}

// behindProxy makes a repository in a bucket, whose requests are counted.
func behindProxy(r *rig) (far, *faultproxy.Proxy) {
	f := inBucket(r)
	endpoint := strings.TrimSpace(strings.TrimPrefix(f.keys, "endpoint = "))
	proxy := faultproxy.Start(r.t, endpoint)
	f.keys = "endpoint = " + proxy.URL + "\ncache-dir = " + filepath.Join(r.dir, "cache") + "\n"
	return f, proxy
}

// costsOfSmall are the requests of commands on a repository with a small cluster.
func costsOfSmall(t *testing.T, page *costs) {
	r := newRig(t, 15)
	f, proxy := behindProxy(r)
	near := r.site("near", f)
	primary := near.start("primary", map[string]string{"archive_command": near.archiveCommand()})
	asked := func(f func()) (r requests) {
		proxy.Do(nil)
		f()
		for _, request := range proxy.Log() {
			r.add(request)
		}
		return r
	}
	ship := func(segments int) requests {
		for range segments {
			near.cut(primary)
		}
		return asked(func() { near.run("ship") })
	}
	ship(1)
	one, eleven := ship(1), ship(11)
	each := requests{(eleven.put - one.put) / 10, (eleven.get - one.get) / 10, (eleven.head - one.head) / 10, (eleven.list - one.list) / 10, (eleven.remove - one.remove) / 10, nil}
	page.row("each segment, archived and shipped", each)
	if each.sum() != 1 || each.put != 1 || eleven.sum()-one.sum() != 10 {
		t.Errorf("a segment takes %v, want one PUT: one segment %q, eleven %q", each, one.log, eleven.log)
	}
	page.row("`ship`, nothing to ship", asked(func() { near.run("ship") }))
	page.atMost("`backup`", asked(func() { near.run("backup", "--conninfo", primary.ConnString()) }), requests{12, 30, 0, 25, 2, nil})
	near.run("ship")
	page.atMost("`restore`", asked(func() { near.run("restore", "--repo", "far", "--target-dir", filepath.Join(near.dir, "restored")) }), requests{5, 50, 0, 12, 3, nil})
	near.run("list", "--repo", "far") // keeps what can be kept
	list := asked(func() { near.run("list", "--repo", "far") })
	page.row("`list`, `status`, `check`", list)
	page.atMost("`verify`", asked(func() { near.run("verify", "--repo", "far") }), requests{2, 20, 0, 30, 0, nil})
	near.run("cleanup", "--repo", "far") // marks what no backup needs
	page.atMost("`cleanup`, nothing to remove", asked(func() { near.run("cleanup", "--repo", "far") }), requests{0, 20, 0, 45, 0, nil})
	away := r.site("away", f)
	last, err := wal.ParseName(near.cut(primary))
	near.must(err)
	near.run("ship")
	ask := func() requests {
		return asked(func() {
			for _, name := range []string{last.Next(1 << 20).String(), "00000002.history"} {
				cmd := away.command("fetch", name, "--server", filepath.Join(away.dir, "standby"), "--on", "1", "--at", "0/900000")
				if out, err := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != 3 {
					t.Errorf("fetch %s: %v: %s", name, err, out)
				}
			}
		})
	}
	ask()
	page.atMost("a standby looks for WAL that is not there", ask(), requests{0, 5, 0, 27, 0, nil})
	// The repository stays open: it is not opened again, and the identity is not read for the cache again.
	idle := requests{get: 6 * (list.get - 1), list: 60*idleMinute.list + 6*(list.list-1)}
	page.row("an hour without WAL", idle)
	if idle.sum() > 120 {
		t.Errorf("an idle hour takes %s requests, want at most 120", idle)
	}
}

// idleMinute are the requests of run in a minute without WAL in which it does not inspect the archive.
var idleMinute = requests{list: 1}

// TestCostsIdle counts them between two that shipping makes each minute.
func TestCostsIdle(t *testing.T) {
	if os.Getenv("WALKEEP_LONG") == "" {
		t.Skip("it takes two minutes; package ship counts the same at a faster pace")
	}
	t.Parallel()
	r := newRig(t, 15)
	f, proxy := behindProxy(r)
	near := r.site("near", f)
	primary := near.start("primary", map[string]string{"archive_command": near.archiveCommand()})
	near.run("backup", "--conninfo", primary.ConnString())
	near.runs("stream = true\npartial-interval = 1s\nmetrics-listen = 127.0.0.1:0\nconninfo = " + primary.ConnString() + "\n")
	near.holds(near.cut(primary))
	proxy.Do(nil)
	var asked []int // which requests ask whether the repository is there
	for until := time.Now().Add(8 * time.Minute); len(asked) < 2; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("the repository is not asked: %q", proxy.Log())
		}
		asked = nil
		for i, request := range proxy.Log() {
			if strings.HasPrefix(request, "GET /") && strings.HasSuffix(request, "%2F"+vastIdentity) && strings.Contains(request, "list-type=") {
				asked = append(asked, i)
			}
		}
	}
	var minute requests
	for _, request := range proxy.Log()[asked[0]:asked[1]] {
		minute.add(request)
	}
	if minute.String() != idleMinute.String() {
		t.Errorf("run took %s requests in a minute, want %s: %q", minute, idleMinute, minute.log)
	}
}

// docs/costs.md says what each command costs.
func TestCosts(t *testing.T) {
	cmdtest.Long(t)
	page := &costs{t: t}
	page.section(costsHead)
	costsOfSmall(t, page)
	page.section(costsSmall)
	costsOfVast(t, page)
	page.section(costsEnd)
	cmdtest.Golden(t, "../docs/costs.md", page.page.String())
}
