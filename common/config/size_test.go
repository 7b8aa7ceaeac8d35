package config_test

import (
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"walkeep/common/config"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1B": 1, "512": 512, "1kB": 1024, "1024kB": 1 << 20, "16MB": 16 << 20, "200GB": 200 << 30, "3TB": 3 << 40,
		" 10GB ": 10 << 30, "10 GB": 10 << 30, "10\tGB": 10 << 30, "007MB": 7 << 20, "0TB": 0,
		"4194304TB": 1 << 62, "4611686018427387904": 1 << 62,
	} {
		var got config.Size
		if err := got.UnmarshalFlag(text); err != nil || int64(got) != want {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
		back, err := got.MarshalFlag()
		if err != nil {
			t.Fatal(err)
		}
		var again config.Size
		if err := again.UnmarshalFlag(back); err != nil || again != got {
			t.Errorf("%q: as %q: got %d, %v, want %d", text, back, again, err, got)
		}
	}
	for _, text := range []string{
		"", " ", "B", "GB", "-1", "-1GB", "1.5GB", "1e3", "0x10", "1_000", "10gb", "10Gb", "10G", "10GiB", "10KB", "10PB", "10 GB GB",
		"GB10", "1GB2MB", "ten", "4194305TB", "4611686018427387905", "9223372036854775807", "9999999999999999999999", "1\x00", "１GB",
	} {
		got := config.Size(math.MinInt64)
		if err := got.UnmarshalFlag(text); err == nil || !strings.Contains(err.Error(), "is not a size such as") {
			t.Errorf("%q: got %d, %v, want an error", text, got, err)
		}
		if got != math.MinInt64 {
			t.Errorf("%q: the size is changed to %d", text, got)
		}
	}
}

func FuzzSize(f *testing.F) {
	for _, s := range []string{"10GB", "1kB", "5", " 7 MB", "-1", "99999999TB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var s, again config.Size
		if s.UnmarshalFlag(text) != nil {
			return
		}
		back, err := s.MarshalFlag()
		if err != nil || s < 0 || again.UnmarshalFlag(back) != nil || again != s {
			t.Errorf("%q: got %d, written %q (%v), read %d", text, s, back, err, again)
		}
	})
}

// FuzzINI reads arbitrary configuration files: an error that names the file, or the same configuration each time, every
// part of which its key accepts again.
func FuzzINI(f *testing.F) {
	for _, s := range []string{
		"spool = /srv/wal\n[walkeep]\ncodec = zstd\nlevel = 3\nspool-limit = 200GB\nretry-time = 5s\n",
		"[", "[]", "[walkeep", "[[walkeep]", "]", "=", "a=", "spool=\"", "spool=\"\\x00\"", "verbose", "verbose=", "\uFEFF[walkeep]\r\nquiet = 1\r\n",
		"level = -9223372036854775808", "; comment\n# comment\n[walkeep]\n[walkeep]\nspool=x\nspool=y", "v=1\nSpool=x\nSpoolLimit=1\n",
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(dir, "walkeep.ini")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		first, second := config.Default(), config.Default()
		errFirst, errSecond := first.Load(file), second.Load(file)
		if (errFirst == nil) != (errSecond == nil) || errFirst == nil && !reflect.DeepEqual(first, second) {
			t.Fatalf("got %+v, %v and then %+v, %v", first, errFirst, second, errSecond)
		}
		if errFirst != nil {
			if !strings.Contains(errFirst.Error(), file) {
				t.Fatalf("the error does not name the file: %v", errFirst)
			}
			return
		}
		if first.File != "" || first.Version {
			t.Fatalf("the file sets what it may not: %+v", first)
		}
		first.Validate()
	})
}
