//go:build unix

package repository_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"walkeep/common/archive"
	"walkeep/common/config"
	"walkeep/common/storage"
	"walkeep/common/storage/sftp/sftptest"
	"walkeep/supervisor/repository"
)

// A repository on an SFTP server is opened with the keys of its section.
func TestSFTP(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	r := config.Repository{
		Name: "far", URL: fmt.Sprintf("sftp://%s@%s%s", s.User, s.Address(), s.Root),
		KeyFile: s.KeyFile, KnownHosts: s.KnownHosts, Timeout: time.Minute,
	}
	far, err := repository.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	id := archive.Identity{SystemID: 1, SegmentSize: 16 << 20}
	if err := far.Archive.Bind(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := far.Close(); err != nil {
		t.Error(err)
	}
	r.KnownHosts, r.HostKey = "", s.HostKey
	again, err := repository.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if got, err := again.Archive.Identity(t.Context()); err != nil || got.SystemID != id.SystemID {
		t.Errorf("got %+v, %v, want %+v", got, err, id)
	}
	r.HostKey = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
	if _, err := repository.Open(t.Context(), r); !errors.Is(err, storage.ErrDenied) {
		t.Errorf("another host: got %v, want ErrDenied", err)
	}
}
