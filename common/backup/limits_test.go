package backup_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"walkeep/common/backup"
	"walkeep/common/backup/volume"
	"walkeep/common/codec"
	"walkeep/common/storage"
	"walkeep/common/storage/mem"
)

// The largest file that a backup may hold can be read from an index, and no larger one.
func TestLargestFile(t *testing.T) {
	f := backup.File{Path: "a", Mode: 0o600, ModTime: began, Size: backup.MaxFile, Volume: 1}
	f.Hashes = make([]byte, f.Blocks()*backup.HashSize)
	var index bytes.Buffer
	if err := backup.WriteIndex(&index, []backup.File{f}); err != nil {
		t.Fatal(err)
	}
	if int64(index.Len()) > f.IndexSize() {
		t.Errorf("the index has %d bytes, and was reckoned with at most %d", index.Len(), f.IndexSize())
	}
	got, err := backup.ReadIndex(bytes.NewReader(index.Bytes()))
	if err != nil || len(got) != 1 || got[0].Size != backup.MaxFile {
		t.Errorf("got %d files, %v", len(got), err)
	}
	larger := strings.Replace(index.String(), `"size":274877906944`, `"size":274877906945`, 1)
	if larger == index.String() {
		t.Fatal("the index does not say the size")
	}
	if _, err := backup.ReadIndex(strings.NewReader(larger)); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("a larger file: got %v, want %v", err, codec.ErrDamaged)
	}
}

// What no reader would accept is refused while it is written, before anything of it is stored.
func TestTooLargeForABackup(t *testing.T) {
	c, err := codec.ByName("none")
	if err != nil {
		t.Fatal(err)
	}
	dirs := []backup.File{{Path: "a", Dir: true, Mode: 0o700, ModTime: began}, {Path: "b", Dir: true, Mode: 0o700, ModTime: began}}
	least := dirs[0].IndexSize() + dirs[1].IndexSize()
	for _, test := range []struct {
		name  string
		files []backup.File
		index int64 // largest size
		want  error
	}{
		{"file", []backup.File{{Path: "a", Mode: 0o600, ModTime: began, Size: backup.MaxFile + 1}}, 0, backup.ErrTooLarge},
		{"index", dirs, least - 1, backup.ErrTooLarge},
		{"index that fits", dirs, least, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := new(mem.Backend)
			w := volume.NewWriter(b, manifest().ID, volume.Options{Codec: c, Workers: 1, Tool: "test", MaxIndex: test.index})
			if err := w.Add(t.Context(), &source{files: test.files, zero: true}); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if there, err := storage.ListAll(t.Context(), b, "backups/"); err != nil || (len(there) > 0) != (test.want == nil) {
				t.Errorf("there is %v, %v", there, err)
			}
		})
	}
}
