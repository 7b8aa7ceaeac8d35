package codec_test

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"testing"

	"walkeep/common/codec"
)

// What the tools expand and this program does not is not called damaged, and what the gzip tool lets pass is expanded.
func TestForeignForms(t *testing.T) {
	plain := samples()["text"]
	pipe := func(args ...string) []byte {
		t.Helper()
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = bytes.NewReader(plain)
		out, err := cmd.Output()
		if err != nil {
			t.Skipf("%v: %v", args, err)
		}
		return out
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	gz, zst := pipe("gzip", "-c"), pipe("zstd", "-q", "-c")
	for _, test := range []struct {
		name, codec string
		stored      []byte
		times       int   // the plain bytes are expanded
		want        error // nil: it is expanded
	}{
		{"gzip", "gzip", gz, 1, nil},
		{"two members", "gzip", join(gz, gz), 2, nil},
		{"zero bytes behind", "gzip", join(gz, make([]byte, 512)), 1, nil},
		{"many zero bytes behind", "gzip", join(gz, make([]byte, 100_000)), 1, nil},
		{"one zero byte behind", "gzip", join(gz, []byte{0}), 1, nil},
		{"zero bytes between", "gzip", join(gz, make([]byte, 512), gz), 0, codec.ErrDamaged},
		{"rubbish behind", "gzip", join(gz, []byte("rubbish")), 0, codec.ErrDamaged},
		{"cut off", "gzip", gz[:len(gz)-1], 0, codec.ErrDamaged},
		{"cut off, and zero bytes", "gzip", join(gz[:len(gz)-9], make([]byte, 512)), 0, codec.ErrDamaged},
		{"zstd", "zstd", join(zst, zst), 2, nil},
		{"a large window", "zstd", pipe("zstd", "-q", "-c", "--long=30"), 0, codec.ErrUnsupported},
		{"lz4 behind", "zstd", join(zst, pipe("lz4", "-q", "-c")), 0, codec.ErrUnsupported},
		{"gzip behind", "zstd", join(zst, gz), 0, codec.ErrUnsupported},
		{"lz4 alone", "zstd", pipe("lz4", "-q", "-c"), 0, codec.ErrUnsupported},
		{"rubbish behind a frame", "zstd", join(zst, []byte("rubbish")), 0, codec.ErrDamaged},
		{"a frame cut off", "zstd", zst[:len(zst)-1], 0, codec.ErrDamaged},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := expandForeign(t, test.codec, test.stored)
			if test.want == nil && (err != nil || !bytes.Equal(got, bytes.Repeat(plain, test.times))) {
				t.Errorf("got %d bytes, %v, want %d", len(got), err, test.times*len(plain))
			}
			if unsupported := errors.Is(err, codec.ErrUnsupported); test.want != nil && (err == nil || unsupported != (test.want == codec.ErrUnsupported)) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func expandForeign(t *testing.T, name string, stored []byte) ([]byte, error) {
	t.Helper()
	o, err := codec.OpenObject(byName(t, name), bytes.NewReader(stored), int64(len(stored)))
	if err != nil {
		t.Fatal(err)
	}
	r, err := o.Reader(t.Context(), 1<<30)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}
