package page_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"walkeep/common/cmdtest"
	"walkeep/supervisor/page"
	"walkeep/supervisor/report"
)

func write(t testing.TB, s page.State) string {
	t.Helper()
	var out bytes.Buffer
	if err := page.Write(&out, s, now.Add(20*time.Second)); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// styles are the same in all pages.
var styles = regexp.MustCompile(`(?s)<style>.*?</style>`)

// TestGolden compares the pages of some states, without their styles, with golden files.
func TestGolden(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("commands have the quotes of Windows there")
	}
	for name, s := range models() {
		t.Run(name, func(t *testing.T) {
			cmdtest.Golden(t, "testdata/"+name+".html", styles.ReplaceAllString(write(t, s), "<style></style>"))
		})
	}
}

// What is hostile in any text of a report stays text.
func TestEscape(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=x onerror=alert(1)>{{.}}</style></title></svg>`
	r := damaged()
	r.SystemID = evil
	r.Backups[0].ID, r.Backups[0].Type, r.Backups[1].DrillError, r.Backups[5].Reason = evil, evil, evil, evil
	r.Damaged[0].Reason, r.Faults[0].Object, r.Faults[0].Error = evil, evil, evil
	r.Timelines[0].HistoryError, r.Windows[1].Gap.Damage = evil, evil
	r.Streams[0].Slot, r.Streams[0].Host, r.Streams[0].Trouble = evil, evil, evil
	r.Standbys[0].ID, r.Standbys[0].Host, r.Standbys[0].DataDirectory, r.Standbys[0].Restartpoint = evil, evil, evil, evil
	r.Leases[0].Kind, r.Leases[0].Host, r.Leases[0].Backup = evil, evil, evil
	r.Server.Version, r.Server.ArchiverProblem, r.Server.Advice, r.Server.Slots[0].Name, r.Server.Slots[0].Reason = evil, evil, evil, evil, evil
	r.Config = []string{evil}
	d := down()
	r.Shipping, r.Archives, r.Removals = d.Shipping, d.Archives, d.Removals
	r.Shipping[1].Repository, r.Shipping[1].Error, r.Shipping[1].Stuck[0].Object, r.Shipping[1].Stuck[0].Error = evil, evil, evil, evil
	r.Archives[2].Name, r.Archives[2].URL, r.Archives[2].Error, r.Archives[1].Lacks = evil, evil, evil, []string{evil}
	r.Removals[0].User, r.Removals[0].Repository = evil, evil
	s := state(r)
	s.Error, s.Version = evil, evil
	got := write(t, s)
	for _, bad := range []string{"<script", "<img", "onerror=alert(1)>{", "</style></title>"} {
		if i := strings.Index(got, bad); i >= 0 {
			t.Errorf("%q is in the page: ...%s", bad, got[max(0, i-200):i+100])
		}
	}
	if n := strings.Count(got, "&lt;script&gt;alert(1)&lt;/script&gt;"); n < 30 {
		t.Errorf("the text is in the page %d times, fewer than where it was put", n)
	}
	if strings.Count(got, "<title") != strings.Count(got, "</title>") || strings.Count(got, "<svg") != strings.Count(got, "</svg>") {
		t.Error("an element is not closed")
	}
}

// The policy allows the one style of the page and nothing else, and the page has no other, no script and no reference elsewhere.
func TestPolicy(t *testing.T) {
	var live page.Live
	live.Record(state(damaged()))
	server := httptest.NewServer(&live)
	defer server.Close()
	answer, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var body bytes.Buffer
	body.ReadFrom(answer.Body)
	policy := answer.Header.Get("Content-Security-Policy")
	styles := regexp.MustCompile(`(?s)<style>(.*?)</style>`).FindAllStringSubmatch(body.String(), -1)
	if len(styles) != 1 {
		t.Fatalf("got %d styles", len(styles))
	}
	sum := sha256.Sum256([]byte(styles[0][1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	if policy != want {
		t.Errorf("got the policy  %s\nwant %s", policy, want)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		"Cross-Origin-Resource-Policy": "same-origin",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if found := regexp.MustCompile(`(?i)<script|<link[^>]* href="(?:http|/)| style="| src=| on[a-z]+="|https?://`).FindAllString(strings.ReplaceAll(body.String(), "http://www.w3.org/2000/svg", ""), -1); found != nil {
		t.Errorf("the page has %q", found)
	}
}

// On the loopback interface the page is served under that interface's names alone.
func TestRebinding(t *testing.T) {
	var live page.Live
	get := func(at, host string) int {
		r := httptest.NewRequest("GET", "http://"+host+"/", nil)
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.ParseIP(at), Port: 9187}))
		w := httptest.NewRecorder()
		live.ServeHTTP(w, r)
		return w.Code
	}
	for _, one := range []struct {
		at, host string
		want     int
	}{
		{"127.0.0.1", "127.0.0.1:9187", 200}, {"127.0.0.1", "localhost:9187", 200}, {"::1", "[::1]:9187", 200}, {"127.0.0.1", "evil.example:9187", 421},
		{"::1", "evil.example", 421}, {"192.0.2.1", "db1.example:9187", 200},
	} {
		if got := get(one.at, one.host); got != one.want {
			t.Errorf("%s at %s: got %d, want %d", one.host, one.at, got, one.want)
		}
	}
}

// A state without a report keeps the last report, and the page says both.
func TestLost(t *testing.T) {
	var live page.Live
	get := func() string {
		w := httptest.NewRecorder()
		live.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		return w.Body.String()
	}
	if got := get(); !strings.Contains(got, "The archive was not read yet") {
		t.Errorf("got %s", got)
	}
	live.Record(state(healthy()))
	live.Record(page.State{Looked: time.Now(), Error: "input/output error"})
	live.Record(page.State{Looked: time.Now(), Error: "input/output error"})
	if got := get(); !strings.Contains(got, "The archive cannot be read: input/output error. All below is how it was at 2026-11-28 12:00:00 UTC.") ||
		!strings.Contains(got, "<title>CRITICAL") || !strings.Contains(got, "7311223344556677889") {
		t.Errorf("got %s", got)
	}
	old := state(healthy())
	old.Looked, old.Late = time.Now().Add(-time.Hour), 10*time.Minute
	live.Record(old)
	if got := get(); !strings.Contains(got, "This state is 1h0m old") || !strings.Contains(got, "<title>WARNING") {
		t.Errorf("got %s", got)
	}
}

// Each finding that can be corrected says what to type.
func TestFindingsHelp(t *testing.T) {
	for name, s := range models() {
		for _, f := range s.Findings {
			if f.Help == "" || f.State == report.Critical && f.Command == "" {
				t.Errorf("%s: nothing helps against %q", name, f.Text)
			}
		}
	}
}

// However much the archive holds, the page stays small.
func TestSize(t *testing.T) {
	for _, r := range []*report.Report{many(400, 0), many(400, 5000), many(3000, 100000)} {
		if n := len(write(t, state(r))); n > 500_000 {
			t.Errorf("%d backups and %d gaps: the page has %d bytes", len(r.Backups), len(r.Timelines[0].Gaps), n)
		} else {
			t.Logf("%d backups and %d gaps: %d bytes", len(r.Backups), len(r.Timelines[0].Gaps), n)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, r := range map[string]*report.Report{"400 backups and 200000 segments": many(400, 0), "the same with 5000 gaps": many(400, 5000)} {
		b.Run(name, func(b *testing.B) {
			s := state(r)
			for b.Loop() {
				b.SetBytes(int64(len(write(b, s))))
			}
		})
	}
}
