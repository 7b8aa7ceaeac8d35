package retain_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"walkeep/common/archive"
	"walkeep/common/backup"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
	"walkeep/supervisor/retain"
)

// unanswered is a backend that cannot read manifests: its errors are those of a missing parent directory.
type unanswered struct{ storage.Backend }

func (u *unanswered) Open(ctx context.Context, name string) (storage.Object, error) {
	if strings.HasSuffix(name, backup.ManifestName) {
		_, err := os.Open("/nonexistent/known_hosts")
		return nil, fmt.Errorf("log in: %w", err)
	}
	return u.Backend.Open(ctx, name)
}

// A backup whose manifest cannot be read is not unfinished.
func TestUnansweredManifest(t *testing.T) {
	b := &unanswered{new(mem.Backend)}
	put(t, b, "archive.json", []byte(`{"version":1,"system_identifier":"4711","segment_size":1048576}`))
	for _, name := range []string{"data-0001.tar.zst", "files.json.zst", backup.ManifestName} {
		put(t, b, backup.Dir("20261122T120000Z")+name, []byte("x"))
	}
	before := objects(t, b)
	if _, err := retain.Clean(t.Context(), archive.New(b), retain.Options{Now: noon, Live: live}); err == nil {
		t.Error("the cleanup does not fail")
	}
	if got := objects(t, b); !slices.Equal(got, before) {
		t.Errorf("left %q of %q", got, before)
	}
}
