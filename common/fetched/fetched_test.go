package fetched_test

import (
	"errors"
	"io/fs"
	"math"
	"reflect"
	"testing"
	"time"

	"walkeep/common/fetched"
	"walkeep/common/recovery"
	"walkeep/common/wal"
)

func TestLeads(t *testing.T) {
	now := time.Now()
	f := recovery.Follower{At: 100, On: 2}
	way := fetched.Way{Judged: now, Timeline: 2, Follower: f, Below: 0x21, Branch: fetched.Branch([]byte("x")), SegmentSize: 16 << 20}
	for _, test := range []struct {
		name    string
		segment string
		change  func(w *fetched.Way, f *recovery.Follower, now *time.Time)
		want    bool
	}{
		{"on the way", "000000020000000000000020", nil, true},
		{"behind it", "000000020000000000000021", nil, false},
		{"no end", "0000000200000FFF00000020", func(w *fetched.Way, _ *recovery.Follower, _ *time.Time) { w.Below = math.MaxUint64 }, true},
		{"another timeline", "000000010000000000000020", nil, false},
		{"a history", "00000002.history", nil, false},
		{"a part", "000000020000000000000020.partial", nil, false},
		{"further on", "000000020000000000000020", func(_ *fetched.Way, f *recovery.Follower, _ *time.Time) { f.At = 200 }, true},
		{"began again", "000000020000000000000020", func(_ *fetched.Way, f *recovery.Follower, _ *time.Time) { f.At = 50 }, false},
		{"elsewhere", "000000020000000000000020", func(_ *fetched.Way, f *recovery.Follower, _ *time.Time) { f.On = 1 }, false},
		{"to elsewhere", "000000020000000000000020", func(_ *fetched.Way, f *recovery.Follower, _ *time.Time) { f.Along = 2 }, false},
		{"old", "000000020000000000000020", func(_ *fetched.Way, _ *recovery.Follower, now *time.Time) { *now = now.Add(fetched.Fresh) }, false},
		{"the clock was set back", "000000020000000000000020", func(_ *fetched.Way, _ *recovery.Follower, now *time.Time) { *now = now.Add(-time.Second) }, false},
		{"no branch", "000000020000000000000020", func(w *fetched.Way, _ *recovery.Follower, _ *time.Time) { w.Branch = "../x" }, false},
		{"no size", "000000020000000000000020", func(w *fetched.Way, _ *recovery.Follower, _ *time.Time) { w.SegmentSize = 0 }, false},
	} {
		n, err := wal.ParseName(test.segment)
		if err != nil {
			t.Fatal(err)
		}
		w, f, now := way, f, now
		if test.change != nil {
			test.change(&w, &f, &now)
		}
		if got := w.Leads(n, f, now); got != test.want {
			t.Errorf("%s: got %t, want %t", test.name, got, test.want)
		}
	}
}

func TestNotes(t *testing.T) {
	spool := t.TempDir()
	c := fetched.Of(spool, 4711)
	id, err := fetched.ServerID("data")
	if err != nil || !fetched.ValidServerID(id) {
		t.Fatalf("got %q, %v", id, err)
	}
	s := c.Server(id)
	if _, err := s.Way(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want %v", err, fs.ErrNotExist)
	}
	way := fetched.Way{Judged: time.Now().UTC().Round(0), Timeline: 3, Below: math.MaxUint64, Branch: fetched.FirstBranch, SegmentSize: 1 << 20}
	want := fetched.Want{Segment: "000000030000000000000020", Data: "/x", Follower: recovery.Follower{At: 0x1000, On: 3}}
	if err := errors.Join(s.PutWay(way), s.PutWant(want)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Way(); err != nil || !reflect.DeepEqual(got, way) {
		t.Errorf("got %+v, %v, want %+v", got, err, way)
	}
	seen := c.Wants()
	if len(seen) != 1 || seen[0].Want != want || seen[0].ID != id {
		t.Errorf("got %+v, want %+v", seen, want)
	}
	all, err := fetched.Clusters(spool)
	if err != nil || len(all) != 1 || all[0] != c {
		t.Errorf("got %v, %v, want %v", all, err, c)
	}
	if s.Forget(); len(c.Wants()) > 0 {
		t.Error("the note is not forgotten")
	}
}

func TestClaim(t *testing.T) {
	c := fetched.Of(t.TempDir(), 4711)
	n := wal.Name{Kind: wal.KindSegment, Timeline: 1, Seg: 5}
	first, err := c.Claim(n)
	if err != nil || first == nil {
		t.Fatalf("got %v, %v", first, err)
	}
	if second, err := c.Claim(n); err != nil || second != nil {
		t.Errorf("the claim is taken: got %v, %v", second, err)
	}
	n.Seg++
	if other, err := c.Claim(n); err != nil || other == nil {
		t.Errorf("the next segment: got %v, %v", other, err)
	} else {
		other.Close()
	}
	first.Close()
}

func TestBranchOf(t *testing.T) {
	branch := fetched.Branch(nil)
	for object, want := range map[string]string{
		"wal/0000000100000000/x.zst":                     ".",
		"fetched/4711/first/wal/x/y.zst":                 "fetched/4711/first",
		"fetched/4711/" + branch + "/wal/00000002.x.zst": "fetched/4711/" + branch,
		"fetched/4711/once/wal/x":                        "fetched/4711/once",
		"fetched/4711/servers/wal/x":                     "",
		"fetched/../first/wal/x":                         "",
		"fetched/x/first/wal/x":                          "",
		"fetched/4711/first/backups/x":                   "",
		"/wal/x":                                         "",
		"":                                               "",
	} {
		if dir, _, ok := fetched.BranchOf(object); dir != want || ok != (want != "") {
			t.Errorf("%q: got %q, %t, want %q", object, dir, ok, want)
		}
	}
}
