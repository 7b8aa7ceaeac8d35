//go:build unix

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"walkeep/common/config"
	"walkeep/common/storage/s3/s3test"
)

// setup warns of repositories that cannot be reached or written to, and refuses another cluster's; the server archives into the spool
// all the same.
func TestSetupRepositories(t *testing.T) {
	t.Parallel()
	r := newSetupRig(t, setupMajor, nil)
	s := s3test.Start(t, s3test.Versitygw)
	keys := func(name, bucket string, actions ...string) string {
		content, err := os.ReadFile(s.Limited(t, bucket, actions...))
		r.must(err)
		path := filepath.Join(filepath.Dir(r.ini), name)
		r.must(os.WriteFile(path, content, 0o600))
		return path
	}
	good, closed := s.Bucket(t), s.Bucket(t)
	goodKeys := keys("good", good, "s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload")
	closedKeys := keys("closed", closed, "s3:ListBucket", "s3:GetObject")
	for _, dir := range []string{"near", "other"} {
		r.mkdir(filepath.Join(r.dir, dir))
	}
	file := config.Line("spool", r.spool) + "\n" + fmt.Sprintf(`
[repository good]
url = s3://%[2]s/prefix
endpoint = %[1]s
credentials-file = %[3]s
[repository closed]
url = s3://%[4]s/prefix
endpoint = %[1]s
credentials-file = %[5]s
[repository near]
url = file://%[6]s/near
[repository gone]
url = file://%[6]s/gone
`, s.URL, good, goodKeys, closed, closedKeys, r.dir)
	r.must(os.WriteFile(r.ini, []byte(file), 0o644))
	r.give(filepath.Dir(r.ini))

	for _, how := range []string{"--dry-run", "--restart"} {
		out := r.setup(how)
		for _, want := range []string{
			"ok: repository good (s3://" + good + "/prefix) can be reached",
			"ok: repository near (file://" + r.dir + "/near) can be reached",
			"warning: repository gone (file://" + r.dir + "/gone) cannot be used: open repository gone: ",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("setup %s does not say %q:\n%s", how, want, out)
			}
		}
		// What a dry run would have to write is not tried.
		if tried := strings.Contains(out, "warning: repository closed (s3://"+closed+"/prefix) cannot be used: "); tried != (how == "--restart") {
			t.Errorf("setup %s: the repository that cannot be written to was reported: %t:\n%s", how, tried, out)
		}
	}
	if left, err := os.ReadDir(filepath.Join(r.dir, "near")); err != nil || len(left) > 0 {
		t.Errorf("setup has left %v, %v in the repository", left, err)
	}
	_, err := r.c.ArchiveSegment(r.ctx())
	r.must(err)

	other := `{"version":1,"system_identifier":"123","segment_size":16777216}` + "\n"
	r.must(os.WriteFile(filepath.Join(r.dir, "other", "archive.json"), []byte(other), 0o644))
	r.must(os.WriteFile(r.ini, []byte(file+"[repository other]\nurl = file://"+r.dir+"/other\n"), 0o644))
	r.refuses("repository other (file://" + r.dir + "/other) cannot be used: the archive there is of another cluster: its system identifier is 123")
}
