package sealed

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"walkeep/common/codec"
)

// Ext is the last ending of a sealed object's name.
const Ext = ".age"

const (
	intro      = "age-encryption.org/v1\n"
	stanzaLine = "-> walkeep 1\n"
	bodySize   = 160 // bytes
	bodyChars  = 218 // of it in base64, with line feeds
	columns    = 64
	macChars   = 43
	nonceSize  = 16

	// maxHeader bounds the header in bytes: some 1000 recipients, or 60 hybrid ones.
	maxHeader = 128 << 10

	formatVersion = 1
	flagElsewhere = 1
)

var b64 = base64.RawStdEncoding.Strict()

// Facts are what a sealed object says of its content to those who have no private key.
type Facts struct {
	Codec     string // by name
	WALCheck  codec.WALCheck
	Elsewhere bool // the SHA-256 and the plain size are in a backup's manifest, and zero here

	SHA256   [32]byte // of the stored bytes, without the stanza's body and the MAC
	Tag      Tag
	SystemID uint64 // 0: not known

	PlainSize             uint64 // bytes
	Start, End, DamageLSN uint64 // LSN
	Timeline              uint32

	macKey [32]byte
}

// FactsOf are the facts of an object with this trailer, which do not include its hashes.
func FactsOf(t *codec.Trailer) Facts {
	return Facts{
		Codec: t.Codec, WALCheck: t.WALCheck, SystemID: t.SystemID, PlainSize: t.PlainSize,
		Start: t.Start, End: t.End, DamageLSN: t.DamageLSN,
	}
}

// Agrees reports whether the facts are those of the object with this trailer.
func (f *Facts) Agrees(t *codec.Trailer) bool {
	want := FactsOf(t)
	want.Elsewhere, want.SHA256, want.Tag, want.Timeline, want.macKey = f.Elsewhere, f.SHA256, f.Tag, f.Timeline, f.macKey
	if f.Elsewhere {
		want = Facts{Codec: t.Codec, Elsewhere: true, macKey: f.macKey}
	}
	return *f == want
}

func (f *Facts) encode() ([]byte, error) {
	id, err := codec.ID(f.Codec)
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	b := append([]byte(nil), f.SHA256[:]...)
	b = append(b, f.macKey[:]...)
	b = append(b, f.Tag.Sum[:]...)
	for _, n := range []uint64{f.SystemID, f.PlainSize, f.Start, f.End, f.DamageLSN} {
		b = le.AppendUint64(b, n)
	}
	flags := byte(0)
	if f.Elsewhere {
		flags = flagElsewhere
	}
	b = append(b, formatVersion, id, byte(f.WALCheck), flags)
	b = le.AppendUint32(b, f.Timeline)
	b = append(b, f.Tag.Key[:]...)
	return append(b, make([]byte, bodySize-len(b))...), nil
}

func decodeFacts(b []byte) (*Facts, error) {
	le := binary.LittleEndian
	if len(b) != bodySize {
		return nil, fmt.Errorf("the stanza walkeep has %d bytes, not %d", len(b), bodySize)
	}
	if b[120] != formatVersion {
		return nil, fmt.Errorf("the stanza walkeep has version %d, this program knows %d", b[120], formatVersion)
	}
	f := &Facts{
		WALCheck: codec.WALCheck(b[122]), Elsewhere: b[123] == flagElsewhere,
		SystemID: le.Uint64(b[80:]), PlainSize: le.Uint64(b[88:]),
		Start: le.Uint64(b[96:]), End: le.Uint64(b[104:]), DamageLSN: le.Uint64(b[112:]),
		Timeline: le.Uint32(b[124:]),
	}
	copy(f.SHA256[:], b)
	copy(f.macKey[:], b[32:])
	copy(f.Tag.Sum[:], b[64:])
	copy(f.Tag.Key[:], b[128:])
	var known bool
	f.Codec, known = codec.NameOf(b[121])
	again, err := f.encode()
	if !known || err != nil || f.WALCheck > codec.Damaged || !bytes.Equal(again, b) ||
		f.Elsewhere && (f.SHA256 != [32]byte{} || f.PlainSize != 0) {
		return nil, errors.New("the fields of the stanza walkeep are wrong")
	}
	return f, nil
}

// wrap gives a stanza's body as it stands in a header.
func wrap(body []byte) []byte {
	text := b64.EncodeToString(body)
	var out []byte
	for ; len(text) >= columns; text = text[columns:] {
		out = append(append(out, text[:columns]...), '\n')
	}
	return append(append(out, text...), '\n')
}

// A header is an age file's header.
type header struct {
	raw                []byte // all of it, up to the line feed behind the MAC
	bodyStart, bodyEnd int    // of the characters of the stanza walkeep's body; both 0 where there is no such stanza
	facts              *Facts // nil where there is no stanza walkeep
}

// macStart is where the characters of the MAC begin.
func (h *header) macStart() int { return len(h.raw) - 1 - macChars }

// mac is the MAC of the header, under this key.
func (h *header) mac(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(h.raw[:h.macStart()-1]) // age leaves out the space before the MAC
	return m.Sum(nil)
}

// hash writes to w what the SHA-256 covers of the header.
func (h *header) hash(w io.Writer) {
	w.Write(h.raw[:h.bodyStart])
	w.Write(h.raw[h.bodyEnd:h.macStart()])
	w.Write(h.raw[len(h.raw)-1:])
}

// set gives the header these facts, and the MAC that it then has. Its length does not change.
func (h *header) set(f *Facts) error {
	body, err := f.encode()
	if err != nil {
		return err
	}
	copy(h.raw[h.bodyStart:h.bodyEnd], wrap(body))
	h.facts = f
	b64.Encode(h.raw[h.macStart():], h.mac(f.macKey[:]))
	return nil
}

// errNotAge says that a file is not one of age's at all.
var errNotAge = errors.New("it does not begin as an age file does")

// readHeader reads a header from r, which is then at the payload. Unless it is foreign, it has its MAC.
func readHeader(r *bufio.Reader) (*header, error) {
	h := &header{}
	line := func() ([]byte, error) {
		text, err := r.ReadSlice('\n') // no line has more than a few hundred characters
		if err != nil {
			return nil, fmt.Errorf("its header is cut off: %w", err)
		}
		if len(h.raw)+len(text) > maxHeader {
			return nil, fmt.Errorf("its header has more than %d bytes", maxHeader)
		}
		h.raw = append(h.raw, text...)
		return text, nil
	}
	if first, err := line(); err != nil || string(first) != intro {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
			err = errNotAge
		}
		return nil, err
	}
	for {
		text, err := line()
		if err != nil {
			return nil, err
		}
		if bytes.HasPrefix(text, []byte("--- ")) {
			if len(text) != len("--- ")+macChars+1 {
				return nil, errors.New("its header's last line is wrong")
			}
			if h.bodyEnd == 0 {
				return h, nil
			}
			return h, h.verify()
		}
		unprintable := func(c rune) bool { return c < ' ' || c > '~' }
		if !bytes.HasPrefix(text, []byte("-> ")) || bytes.IndexFunc(text[:len(text)-1], unprintable) >= 0 {
			return nil, errors.New("a stanza of its header begins wrongly")
		}
		if h.bodyEnd > 0 {
			return nil, errors.New("a stanza follows the stanza walkeep")
		}
		name, start := string(text), len(h.raw)
		for short := false; !short; {
			text, err := line()
			if err != nil {
				return nil, err
			}
			if short = len(text) <= columns; len(text) > columns+1 {
				return nil, errors.New("a line of its header is too long")
			}
		}
		// Nothing else has a body of this size, except a signature of a key of SSH.
		if name == stanzaLine || len(h.raw)-start == bodyChars && !strings.HasPrefix(name, "-> ssh-") {
			h.bodyStart, h.bodyEnd = start, len(h.raw)
			if name != stanzaLine {
				return nil, errors.New("the stanza walkeep has another name")
			}
		}
	}
}

// verify compares the stanza's body and the MAC with the only form that they can have.
func (h *header) verify() error {
	text := bytes.ReplaceAll(h.raw[h.bodyStart:h.bodyEnd], []byte("\n"), nil)
	body := make([]byte, b64.DecodedLen(len(text)))
	n, err := b64.Decode(body, text)
	if err != nil || !bytes.Equal(wrap(body[:n]), h.raw[h.bodyStart:h.bodyEnd]) {
		return errors.New("the stanza walkeep is not in base64")
	}
	if h.facts, err = decodeFacts(body[:n]); err != nil {
		return err
	}
	want := make([]byte, macChars)
	b64.Encode(want, h.mac(h.facts.macKey[:]))
	if !bytes.Equal(want, h.raw[h.macStart():len(h.raw)-1]) {
		return errors.New("its header does not have the MAC that it says")
	}
	return nil
}
