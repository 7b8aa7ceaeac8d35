package archivetest

import (
	"bytes"
	"compress/gzip"
	"io"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// foreignForms are what other archivers and people leave behind, by ending.
var ForeignForms = map[string]func(t testing.TB, b []byte) []byte{
	"": func(_ testing.TB, b []byte) []byte { return b },
	".gz": func(t testing.TB, b []byte) []byte {
		return Compress(t, b, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	},
	".lz4": func(t testing.TB, b []byte) []byte {
		return Compress(t, b, func(w io.Writer) io.WriteCloser { return lz4.NewWriter(w) })
	},
	".s2": func(t testing.TB, b []byte) []byte {
		return Compress(t, b, func(w io.Writer) io.WriteCloser { return s2.NewWriter(w) })
	},
	".zst": func(t testing.TB, b []byte) []byte {
		return Compress(t, b, func(w io.Writer) io.WriteCloser {
			z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1))
			if err != nil {
				t.Fatal(err)
			}
			return z
		})
	},
}

func Compress(t testing.TB, b []byte, to func(io.Writer) io.WriteCloser) []byte {
	t.Helper()
	var out bytes.Buffer
	w := to(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// discard takes what is delivered.
type Discard struct{}

func (Discard) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
