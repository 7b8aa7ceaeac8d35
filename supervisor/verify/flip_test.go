package verify_test

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/cmdtest"
	"walkeep/supervisor/verify"
)

// Changes every 997th byte of every object, one at a time; verify must notice each change and name the object.
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
	for name, content := range before {
		step := 997
		if len(content) < 4*step {
			step = 7
		}
		for at := 0; at < len(content); at += step {
			changed := bytes.Clone(content)
			changed[at] ^= 1 << (at % 8)
			if err := b.Replace(context.Background(), name, changed); err != nil {
				t.Fatal(err)
			}
			flips++
			r, err := verify.Run(context.Background(), archive.New(b), verify.Options{Deep: true, Jobs: 2})
			if err != nil {
				if name != "archive.json" {
					t.Errorf("byte %d of %s: %v", at, name, err)
				}
				continue
			}
			// A changed archive.json makes all other objects foreign.
			if !named(r.Problems, name) && !(name == "archive.json" && len(r.Problems) > len(known)) {
				t.Errorf("byte %d of %s was changed: %d problems, none names it: %v", at, name, len(r.Problems), r.Problems)
			}
		}
		if err := b.Replace(context.Background(), name, content); err != nil {
			t.Fatal(err)
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
