//go:build unix

package sftp_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"

	"walkeep/common/storage"
	"walkeep/common/storage/sftp"
	"walkeep/common/storage/sftp/sftptest"
)

// A segment that does not compress goes to the server, is read back there, and is read.
func BenchmarkSegment(b *testing.B) {
	s := sftptest.Start(b, sftptest.Options{})
	backend, err := sftp.Open(b.Context(), options(s))
	if err != nil {
		b.Fatal(err)
	}
	defer backend.Close()
	content := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	b.SetBytes(int64(len(content)))
	i := 0
	for b.Loop() {
		name := fmt.Sprintf("wal/%08d", i)
		i++
		write := func(w io.Writer) error {
			_, err := w.Write(content)
			return err
		}
		read := func(r io.Reader) error {
			n, err := io.Copy(io.Discard, r)
			if err == nil && n != int64(len(content)) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := storage.Put(b.Context(), backend, name, write, read); err != nil {
			b.Fatal(err)
		}
		if err := backend.Remove(b.Context(), name); err != nil {
			b.Fatal(err)
		}
	}
}
