package verify_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/cmdtest"
	"walkeep/supervisor/verify"
)

// Changes every 997th byte of every object, of small ones every seventh; verify must notice each change and name the object.
// One byte of each object is changed at a time. Those that say what the others are, archive.json and manifests, are changed alone.
func TestDeepNoticesEveryFlip(t *testing.T) {
	cmdtest.Long(t)
	b := newArchive(t)
	before := all(t, b)
	known := run(t, b, true).Problems
	for _, p := range known {
		if p.Severity != verify.Missing { // there are no segments between those of the test data
			t.Fatalf("the archive is not sound: %s", p)
		}
	}
	flips := 0
	// flip changes byte number i of those that are to be changed in an object, and reports whether there is one.
	flip := func(name string, i int) bool {
		content := before[name]
		step := 997
		if len(content) < 4*step {
			step = 7
		}
		at := i * step
		if at >= len(content) {
			return false
		}
		changed := bytes.Clone(content)
		changed[at] ^= 1 << (at % 8)
		if err := b.Replace(context.Background(), name, changed); err != nil {
			t.Fatal(err)
		}
		flips++
		return true
	}
	const identity = "archive.json"
	groups := make(map[string][]string) // what is changed at a time
	for name := range before {
		group := ""
		if name == identity || strings.HasSuffix(name, "/"+backup.ManifestName) {
			group = name
		}
		groups[group] = append(groups[group], name)
	}
	for _, group := range groups {
		for i := 0; ; i++ {
			var changed []string
			for _, name := range group {
				if flip(name, i) {
					changed = append(changed, name)
				}
			}
			if len(changed) == 0 {
				break
			}
			r, err := verify.Run(context.Background(), archive.New(b), verify.Options{Deep: true, Jobs: 2})
			if err != nil && changed[0] != identity {
				t.Fatalf("change %d of %q: %v", i, changed, err)
			}
			for _, name := range changed {
				if err == nil && !named(r.Problems, name) && !(name == identity && len(r.Problems) > len(known)) {
					t.Errorf("change %d of %s: %d problems, none names it: %v", i, name, len(r.Problems), r.Problems)
				}
			}
			for _, name := range changed {
				if err := b.Replace(context.Background(), name, before[name]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("%d flips in %d objects", flips, len(before))
	if got := run(t, b, true).Problems; len(got) != len(known) {
		t.Errorf("with all bytes as they were, there are %d problems instead of %d", len(got), len(known))
	}
	for name, content := range all(t, b) {
		if !strings.HasPrefix(name, "verified/") && !bytes.Equal(content, before[name]) {
			t.Errorf("verify has changed %s", name)
		}
	}
}

// named reports whether a problem names an object, or the WAL file in it.
func named(problems []verify.Problem, object string) bool {
	for _, p := range problems {
		if p.Severity == verify.Damage && strings.HasPrefix(object, p.Object) {
			return true
		}
	}
	return false
}
