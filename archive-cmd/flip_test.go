package main_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	main "walkeep/archive-cmd"
	"walkeep/common/cmdtest"
)

// A flip is a bit of a segment that is changed on its way to the archive.
type flip struct {
	major, name string
	oracle      oracle
	bit         int

	verify, codec string
	process       bool // archive it by a process of its own
}

func (f flip) String() string {
	return fmt.Sprintf("%s/%s bit %d, --verify %s", f.major, f.name, f.bit, f.verify)
}

// flippable are real segments of timeline 1 that do not begin or continue with what a crash cut off.
func flippable(t testing.TB) []flip {
	t.Helper()
	var all []flip
	for _, major := range []string{"11", "12", "13", "14", "15", "16", "17", "18", "19"} {
		files := cmdtest.WAL(t, major)
		names := files.Segments()
		for _, i := range []int{0, 1, 2, 4} {
			all = append(all, flip{major: major, name: names[i], oracle: newOracle(t, files[names[i]])})
		}
	}
	return all
}

// choose picks a bit: of the first header, of another page's, of a record's, or any bit of the segment.
func choose(random *rand.Rand, from []flip) flip {
	f := from[random.IntN(len(from))]
	o := f.oracle
	f.verify = []string{"warn", "warn", "strict"}[random.IntN(3)]
	f.codec = codecs[random.IntN(len(codecs))]
	f.process = random.IntN(25) == 0
	f.bit = random.IntN(8 * len(o.Segment))
	switch random.IntN(8) {
	case 0:
		f.bit = random.IntN(8 * 40)
	case 1:
		f.bit = 8*o.Block*random.IntN(len(o.Segment)/o.Block) + random.IntN(8*24)
	case 2, 3:
		r := o.Records[random.IntN(len(o.Records))]
		if byte := o.Offset(r.At + random.IntN(cmdtest.RecData)); byte < len(o.Segment) {
			f.bit = 8*byte + random.IntN(8)
		}
	}
	return f
}

// TestFlippedBits changes one bit of a segment 2,500 times, WALKEEP_FLIPS times if that is set. Half of the bits are
// anywhere, the other half in the headers, which are a small part of a segment. One of 25 is archived by a process, the
// others within this one.
func TestFlippedBits(t *testing.T) {
	cmdtest.Long(t)
	flips := number(t, "WALKEEP_FLIPS", 2_500)
	from := flippable(t)
	random := cmdtest.Rand(t)
	work := make(chan flip)
	var workers sync.WaitGroup
	var mu sync.Mutex
	count := make(map[verdict]int)
	for range runtime.GOMAXPROCS(0) {
		w := newFlipper(t)
		workers.Go(func() {
			for f := range work {
				v := f.oracle.verdict(f.bit)
				w.check(t, f, v)
				mu.Lock()
				count[v]++
				mu.Unlock()
			}
		})
	}
	for i := 0; i < flips && !t.Failed(); i++ {
		work <- choose(random, from)
	}
	close(work)
	workers.Wait()
	t.Logf("%d flips: %v", flips, count)
}

// number is how often a test does something, unless the environment says otherwise.
func number(t testing.TB, variable string, standard int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// A flipper archives changed segments, one at a time, each into an archive that holds nothing else.
type flipper struct {
	dir   string
	spool cmdtest.Spool
	files map[string]*os.File // the segments, by path
}

func newFlipper(t *testing.T) flipper {
	dir := cmdtest.FastDir(t)
	f := flipper{dir, cmdtest.NewSpool(t, dir), make(map[string]*os.File)}
	t.Cleanup(func() {
		for _, file := range f.files {
			file.Close()
		}
	})
	return f
}

// source is the file of a segment.
func (w flipper) source(t *testing.T, f flip) *os.File {
	path := filepath.Join(w.dir, f.major, f.name)
	if file, ok := w.files[path]; ok {
		return file
	}
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, f.oracle.Segment, 0o644)
	}
	if err == nil {
		w.files[path], err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		t.Error(err)
	}
	return w.files[path]
}

// check archives the changed segment and checks what becomes of it.
func (w flipper) check(t *testing.T, f flip, v verdict) {
	source := w.source(t, f)
	at := int64(f.bit / 8)
	changed := cmdtest.Flip(f.oracle.Segment, f.bit)
	if _, err := source.WriteAt(changed[at:at+1], at); err != nil {
		t.Error(err)
	}
	defer source.WriteAt(f.oracle.Segment[at:at+1], at)
	w.spool.Bind(t, cmdtest.SystemID(f.oracle.Segment))
	cmd := archive(w.spool, source.Name(), "--verify", f.verify, "--codec", f.codec)
	var r cmdtest.Result
	if f.process {
		cmd.Env = append(cmd.Env, "GOMAXPROCS=1") // all cores are busy with other calls
		r = cmdtest.Run(t, cmd)
	} else {
		r = cmdtest.Inside(main.Call, cmd)
	}
	want, check := 0, cmdtest.Intact
	switch {
	case v == refused || v == damage && f.verify == "strict":
		want = 3
	case v == damage:
		check = cmdtest.Damaged
	}
	if r.Code != want || r.Signal != 0 {
		t.Errorf("%s: got exit code %d, signal %d, want %d for %s\n%s", f, r.Code, r.Signal, want, v, r.Stderr)
	}
	if warned := strings.Contains(r.Stderr, "warning: "); warned != (want == 0 && check == cmdtest.Damaged) {
		t.Errorf("%s: %s, and it said %q", f, v, r.Stderr)
	}
	o, there := w.spool.CheckWhole(t, cmdtest.Files{f.name: changed})[f.name]
	switch {
	case there != (want == 0):
		t.Errorf("%s: exit code %d, and in the archive: %t", f, r.Code, there)
	case there && o.WALCheck() != check:
		t.Errorf("%s: WAL check %d, want %d", f, o.WALCheck(), check)
	}
	if there {
		if err := os.Remove(o.Path); err != nil {
			t.Error(err)
		}
	}
}
