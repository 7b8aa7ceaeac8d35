package sftp_test

import (
	"errors"
	"strings"
	"testing"

	"walkeep/common/cmdtest"
	"walkeep/common/storage"
	"walkeep/common/storage/sftp/sftptest"
)

// OpenSSH's server gives no reason when its disk is full. Nothing is seen of the object, and the next one has the room.
func TestFullDisk(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	o := options(s)
	o.Path = cmdtest.SmallDisk(t, 6<<20)
	s.Own(t, o.Path)
	b := open(t, o)
	err := storage.Put(t.Context(), b, "wal/object", text(strings.Repeat("x", 10<<20)), nil)
	if err == nil || !strings.Contains(err.Error(), "disk is full") || errors.Is(err, storage.ErrExist) {
		t.Errorf("got %v, want that the disk is full", err)
	}
	if entries, err := storage.ListAll(t.Context(), b, "wal/"); err != nil || len(entries) > 0 {
		t.Errorf("listed: %v, %v", entries, err)
	}
	if left := temps(t, o.Path); len(left) > 0 {
		t.Errorf("temporary files are left: %q", left)
	}
	put(t, b, "wal/object", strings.Repeat("x", 4<<20))
}
