//go:build linux

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	content := []byte("42 (a) b (c) S 7 42 42 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 12345 0 0\n")
	got, ok := parseStat(content)
	if want := (process{parent: 7, cpu: 1100 * time.Millisecond}); !ok || got != want {
		t.Errorf("got %v, %v, want %v", got, ok, want)
	}
	if _, ok := parseStat([]byte("42 (cut off) S 7 42")); ok {
		t.Error("a line without times was taken")
	}
}

// The CPU time of a tree counts what runs, what has ended, and what those that have ended had waited for.
func TestCPUOfTree(t *testing.T) {
	p := here(t)
	log, mark := filepath.Join(p.runs, "log"), filepath.Join(p.runs, "mark")
	l, err := p.launch(log, p.runs, 1, shell("sh -c '"+burn+"'; "+burn+"; : >"+mark+"; exec sleep 600"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.end()
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(mark); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the job did not get on")
		}
	}
	job := below(processes(), l.cmd.Process.Pid)[0] // without its launcher, which uses some more to start
	if got := cpuOfTree(job); (got - 2*burnt).Abs() > leeway {
		t.Errorf("got %v of CPU, not about %v", got, 2*burnt)
	}
}

func TestAgainstBest(t *testing.T) {
	took := func(seconds ...int) []sample {
		var samples []sample
		for _, s := range seconds {
			samples = append(samples, sample{took: time.Duration(s) * time.Second})
		}
		return samples
	}
	samples := map[string][]sample{"own": took(6, 6, 6), "slow": took(12, 3, 4), "quick": took(3, 12)}
	for _, c := range []struct {
		name   string
		rivals []string
		want   []float64
	}{
		{"own", []string{"slow"}, []float64{0.5, 2, 1.5}},
		{"own", []string{"slow", "quick", "missing"}, []float64{2, 2}},
		{"own", []string{"missing"}, nil},
		{"missing", []string{"slow"}, nil},
	} {
		if got := againstBest(samples, c.name, c.rivals, tookOf); !slices.Equal(got, c.want) {
			t.Errorf("%s against %v: got %v, want %v", c.name, c.rivals, got, c.want)
		}
	}
}

func TestWantedContestants(t *testing.T) {
	for _, c := range []struct {
		args               string
		archiving, backups string
	}{
		{"", strings.Join(contestantNames(), ","), strings.Join(takerNames(), ",")},
		{"--part archive", strings.Join(contestantNames(), ","), ""},
		{"--part backup", "", strings.Join(takerNames(), ",")},
		{"--only walkeep-zstd,dd", "dd,walkeep-zstd", "walkeep-zstd"},
		{"--only pg_basebackup-server", "", "pg_basebackup-server"},
		{"--part archive --only cp", "cp", ""},
	} {
		o, err := parseOptions(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%q: %v", c.args, err)
			continue
		}
		archiving, backups, err := o.wanted()
		if got := strings.Join(archiving, ","); err != nil || got != c.archiving {
			t.Errorf("%q: archiving: got %q, %v, want %q", c.args, got, err, c.archiving)
		}
		if got := strings.Join(backups, ","); got != c.backups {
			t.Errorf("%q: backups: got %q, want %q", c.args, got, c.backups)
		}
	}
	for _, args := range []string{"--part some", "--only nothing", "--part archive --only stream", "--part archive --only pg_basebackup", "--part backup --only dd"} {
		if _, err := parseOptions(strings.Fields(args)); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

// Rivals and targets name contestants that there are: a misspelt one would be left out of the report in silence.
func TestRivalsExist(t *testing.T) {
	names := takerNames()
	for _, rival := range slices.Concat(backupRivals, sizeRivals, restoreRivals) {
		if !slices.Contains(names, rival) {
			t.Errorf("no contestant %q", rival)
		}
	}
	b := &bench{promoted: []float64{1}, streamed: map[string][]streamSample{streamOnly: {{}}, streamArchived: {{}}, streamSynchronous: {{}}},
		shipping: &shipping{backlog: &backlog{segments: []string{"one"}}, samples: []shipSample{{took: time.Second}}}}
	for _, samples := range []*map[string][]sample{&b.archived, &b.restored, &b.taken, &b.laidOut, &b.compared, &b.rejoined} {
		*samples = map[string][]sample{}
		for _, name := range append(union(contestantNames(), names), "walkeep-zstd-s3") {
			(*samples)[name] = []sample{{rate: 1, calls: 1, stored: 1, wrote: 1, took: time.Second, cpu: time.Second, known: []time.Duration{1}}}
		}
	}
	for _, target := range targets {
		if len(target.values(b)) != 1 {
			t.Errorf("nothing to compare for %q", target.text)
		}
	}
}

func TestReportOfBackups(t *testing.T) {
	all := &cluster{size: 7e8, version: "PostgreSQL 15"}
	b := &bench{
		rounds: 1,
		takers: []*taker{
			{name: "walkeep-zstd", label: "walkeep zstd", version: "1", restore: keepWAL, delta: keepWAL, cluster: all},
			{name: "pgbackrest-zst", label: "pgBackRest zst", version: "2", restore: keepWAL, cluster: all},
		},
		taken: map[string][]sample{
			"walkeep-zstd":   {{took: 2 * time.Second, cpu: 3 * time.Second, server: time.Second, stored: 1e8, peak: 38e6}},
			"pgbackrest-zst": {{took: 4 * time.Second, stored: 2e8}},
		},
		laidOut: map[string][]sample{"walkeep-zstd": {{took: time.Second, cpu: 2 * time.Second, peak: 20e6}}},
	}
	var report strings.Builder
	writeReport(&report, b, "a machine")
	for _, want := range []string{
		"a machine.\nPostgreSQL 15, 1, 2. 1 round, in turn.\n",
		"| walkeep zstd | 2.00 | 3.00 | 1.00 | 100.0 | 7.00 | 38 |\n",
		"| walkeep zstd | 1.00 | 2.00 | 0.0 | 20 |\n| walkeep zstd, delta | failed | | | |\n| pgBackRest zst | failed | | | |\n\n",
		"at most 1.00 x | 0.50 x | reached |\n",
		"at most 1.0000 x | 0.5000 x | reached |\n",
	} {
		if !strings.Contains(report.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(report.String(), "Archiving") {
		t.Error("a part that did not run is reported")
	}
	if t.Failed() {
		t.Log(report.String())
	}
}
