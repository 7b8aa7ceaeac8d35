package codec_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"walkeep/common/codec"
)

// Whatever the order in which parts are written, they are passed on in the order of their offsets.
func TestInOrder(t *testing.T) {
	const parts, size = 16, 10
	want := make([]byte, parts*size)
	for i := range want {
		want[i] = byte(i)
	}
	var got bytes.Buffer
	o := codec.InOrder{Write: func(p []byte) error { _, err := got.Write(p); return err }}
	for _, i := range rand.Perm(parts) {
		part := bytes.Clone(want[i*size : (i+1)*size])
		if n, err := o.WriteAt(part, int64(i*size)); n != size || err != nil {
			t.Fatalf("got %d, %v", n, err)
		}
		clear(part) // the caller uses it again
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("got %v", got.Bytes())
	}
	full := errors.New("full")
	o = codec.InOrder{Write: func([]byte) error { return full }}
	if _, err := o.WriteAt([]byte("x"), 0); !errors.Is(err, full) {
		t.Errorf("got %v, want %v", err, full)
	}
}

func TestMemory(t *testing.T) {
	m := codec.Memory{Limit: 4}
	for _, w := range []struct {
		text string
		at   int64
		ok   bool
	}{{"cd", 2, true}, {"ab", 0, true}, {"de", 3, false}, {"", 4, true}} {
		if _, err := m.WriteAt([]byte(w.text), w.at); (err == nil) != w.ok {
			t.Errorf("%q at %d: got %v", w.text, w.at, err)
		}
	}
	if got := string(m.Bytes()); got != "abcd" {
		t.Errorf("got %q", got)
	}
}
