package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// ChunkSize is the plain size in bytes of the chunks that this version writes. It is small, because a process that stores one
// segment spends much of its time on touching memory for the first time. Against chunks of 2 MiB it costs 2.7% of the stored size of WAL
// with zstd, and 2.3% with s2.
const ChunkSize = 256 << 10

// maxChunkSize bounds the memory that a stored object can ask its reader for.
const maxChunkSize = 64 << 20

// ErrDamaged reports that a stored object's bytes differ from those that its writer stored. It is final.
var ErrDamaged = errors.New("stored object is damaged")

// ErrUnsupported reports that a foreign object may be intact, but has a form that this program does not expand. It is final.
var ErrUnsupported = errors.New("this program does not expand it")

// A Codec is one way to store chunks. Its encoders and decoders are not safe for concurrent use.
type Codec interface {
	// Name is the codec's name in options and in the configuration.
	Name() string
	// Ext is the ending that its objects' names carry, with its dot.
	Ext() string
	// Levels are the least, the greatest and the default level; all zero where there is no choice.
	Levels() (least, greatest, standard int)
	// NewEncoder takes a level in the range of Levels.
	NewEncoder(level int) (Encoder, error)
	NewDecoder() (Decoder, error)
	// NewReader expands a foreign file.
	NewReader(io.Reader) (io.ReadCloser, error)

	id() uint8
	// wrap gives the constant bytes around a payload of n bytes.
	wrap(n int) (head, tail []byte)
}

// An Encoder appends src as one complete stream to dst.
type Encoder interface {
	Encode(dst, src []byte) ([]byte, error)
}

// A Decoder fills dst with what the one complete stream in src expands to. It is an error if that is not exactly as
// long as dst. It may write to the capacity of dst behind its length, and is quicker where there are DecodeSlack bytes of that.
type Decoder interface {
	Decode(dst, src []byte) error
}

// DecodeSlack is how many bytes the zstd library writes at once. Where its buffer ends sooner, its copies take longer.
const DecodeSlack = 16

var codecs = []Codec{zstdCodec{}, s2Codec{}, lz4Codec{}, gzipCodec{}, noneCodec{}}

// Default is the codec that is used where nothing else is asked for.
const Default = "zstd"

// Names lists the codecs, the default first.
func Names() []string {
	names := make([]string, len(codecs))
	for i, c := range codecs {
		names[i] = c.Name()
	}
	return names
}

// ByName finds a codec by what people call it.
func ByName(name string) (Codec, error) {
	for _, c := range codecs {
		if c.Name() == name {
			return c, nil
		}
	}
	return nil, fmt.Errorf("unknown codec %q: choose one of %s", name, strings.Join(Names(), ", "))
}

// ByExt finds the codec that reads objects with this ending. The empty ending is that of a foreign plain file.
func ByExt(ext string) (Codec, bool) {
	if ext == "" {
		return plainFile{}, true
	}
	for _, c := range codecs {
		if c.Ext() == ext {
			return c, true
		}
	}
	return nil, false
}

// ID is the number by which a trailer names a codec.
func ID(name string) (uint8, error) {
	c, err := ByName(name)
	if err != nil {
		return 0, err
	}
	return c.id(), nil
}

// NameOf finds a codec's name by its number in a trailer.
func NameOf(id uint8) (string, bool) {
	for _, c := range codecs {
		if c.id() == id {
			return c.Name(), true
		}
	}
	return "", false
}

// CheckLevel returns an error if the codec does not have this level.
func CheckLevel(c Codec, level int) error {
	least, greatest, _ := c.Levels()
	if least == greatest {
		return fmt.Errorf("codec %s has no levels", c.Name())
	}
	if level < least || level > greatest {
		return fmt.Errorf("codec %s has levels %d to %d, not %d", c.Name(), least, greatest, level)
	}
	return nil
}

// fill reads exactly len(dst) bytes, after which r must end.
func fill(dst []byte, r io.Reader) error {
	if _, err := io.ReadFull(r, dst); err != nil {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	var more [1]byte
	switch n, err := io.ReadFull(r, more[:]); {
	case n > 0:
		return fmt.Errorf("%w: a chunk expands to more than it should", ErrDamaged)
	case err != io.EOF:
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return nil
}

// A buffer lets stream encoders append to a slice.
type buffer struct{ b []byte }

func (w *buffer) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// A streamEncoder encodes with a library's writer of streams.
type streamEncoder struct {
	w interface {
		io.WriteCloser
		Reset(io.Writer)
	}
	out buffer
}

func (e *streamEncoder) Encode(dst, src []byte) ([]byte, error) {
	e.out.b = dst
	e.w.Reset(&e.out)
	if _, err := e.w.Write(src); err != nil {
		return nil, err
	}
	err := e.w.Close()
	return e.out.b, err
}

// A streamDecoder decodes with a library's reader of streams.
type streamDecoder struct {
	r interface {
		io.Reader
		Reset(io.Reader)
	}
	in bytes.Reader
}

func (d *streamDecoder) Decode(dst, src []byte) error {
	d.in.Reset(src)
	d.r.Reset(&d.in)
	return fill(dst, d.r)
}

// skippableFrame is the header that zstd and LZ4 share for what their tools skip.
func skippableFrame(n int) []byte {
	return []byte{0x50, 0x2A, 0x4D, 0x18, byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}
}
