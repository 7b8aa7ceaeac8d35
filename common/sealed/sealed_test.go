package sealed_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"walkeep/common/codec"
	"walkeep/common/sealed"
)

var update = flag.Bool("update", false, "write the golden files")

const name = "000000010000000000000028"

// keys makes a pair of keys in files: a list of recipients and a private key.
func keys(t testing.TB, hybrid bool) (recipients, identity string) {
	t.Helper()
	dir := t.TempDir()
	recipients, identity = filepath.Join(dir, "recipients"), filepath.Join(dir, "identity")
	var public, private string
	if hybrid {
		id, err := age.GenerateHybridIdentity()
		if err != nil {
			t.Fatal(err)
		}
		public, private = id.Recipient().String(), id.String()
	} else {
		id, err := age.GenerateX25519Identity()
		if err != nil {
			t.Fatal(err)
		}
		public, private = id.Recipient().String(), id.String()
	}
	write(t, recipients, "# the safe\n\n"+public+"\n")
	write(t, identity, "# private\n"+private+"\n")
	return recipients, identity
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func readRecipients(t testing.TB, file string) *sealed.Recipients {
	t.Helper()
	r, err := sealed.ReadRecipients(file)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func byName(t testing.TB, name string) codec.Codec {
	t.Helper()
	c, err := codec.ByName(name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// plainObject makes a stored object without encryption.
func plainObject(t testing.TB, c codec.Codec, content []byte) ([]byte, *codec.Trailer) {
	t.Helper()
	_, _, level := c.Levels()
	p, err := codec.NewPacker(c, level)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	trailer, err := p.Pack(&out, bytes.NewReader(content), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	trailer.Name, trailer.Tool, trailer.SystemID, trailer.WALCheck = name, "test", 4711, codec.Intact
	trailer.Start, trailer.End = 0x28000000, 0x28000100
	end, err := trailer.Encode()
	if err != nil {
		t.Fatal(err)
	}
	out.Write(end)
	return out.Bytes(), trailer
}

func compareKey(t testing.TB) *sealed.CompareKey {
	t.Helper()
	k, err := sealed.MakeCompareKey(filepath.Join(t.TempDir(), "recipients"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// seal encrypts a stored object, into a file where the header can be written last, or through memory.
func seal(t testing.TB, r *sealed.Recipients, object []byte, trailer *codec.Trailer, file bool) ([]byte, *sealed.Sealed) {
	t.Helper()
	facts := sealed.FactsOf(trailer)
	facts.Tag, facts.Timeline = compareKey(t).Tag(trailer.Name, trailer.PlainSize, trailer.PlainHash), 1
	fill := func(w io.Writer) (sealed.Facts, error) {
		_, err := w.Write(object)
		return facts, err
	}
	if !file {
		var out bytes.Buffer
		s, err := r.Seal(&out, fill)
		if err != nil {
			t.Fatal(err)
		}
		return out.Bytes(), s
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "object"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s, err := r.Seal(f, fill)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return out, s
}

func content(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32()) & 0x3F
	}
	return b
}

// The plain text of a sealed object is the object that would be stored without encryption, for each recipient.
func TestSealed(t *testing.T) {
	for _, hybrid := range []bool{false, true} {
		recipients, identity := keys(t, hybrid)
		r := readRecipients(t, recipients)
		for _, codecName := range codec.Names() {
			for _, n := range []int{1, 3 << 20} {
				t.Run(fmt.Sprintf("hybrid %v, %s, %d", hybrid, codecName, n), func(t *testing.T) {
					c := byName(t, codecName)
					object, trailer := plainObject(t, c, content(n))
					stored, s := seal(t, r, object, trailer, n > 1)
					if err := s.Check(bytes.NewReader(stored)); err != nil {
						t.Error(err)
					}
					checked, err := sealed.CheckStored(bytes.NewReader(stored), "wal/"+name+c.Ext()+sealed.Ext)
					if err != nil || !checked.Proven() || checked.Size != int64(len(stored)) {
						t.Fatalf("got %+v and %v", checked, err)
					}
					o, err := sealed.Open(bytes.NewReader(stored), int64(len(stored)))
					if err != nil {
						t.Fatal(err)
					}
					f := o.Facts
					if f.Codec != codecName || f.PlainSize != uint64(n) || f.SystemID != 4711 || f.Start != trailer.Start || f.End != trailer.End || f.Timeline != 1 {
						t.Errorf("facts are %+v", f)
					}
					plain, err := o.Plain(sealed.NewIdentities(identity, "", nil))
					if err != nil {
						t.Fatal(err)
					}
					back, err := codec.OpenObject(c, plain, plain.Size())
					if err != nil {
						t.Fatal(err)
					}
					got := codec.Memory{Limit: int64(n)}
					if err := back.Unpack(t.Context(), &got); err != nil || !bytes.Equal(got.Bytes(), content(n)) {
						t.Errorf("expanded otherwise: %v", err)
					}
				})
			}
		}
	}
}

// age's own program, as Debian has it, opens every object, and the codec's tool expands what it prints.
func TestOrdinaryTools(t *testing.T) {
	for _, tool := range []string{"age", "zstd"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	recipients, identity := keys(t, false)
	other, _ := keys(t, false)
	more, err := os.ReadFile(other)
	if err != nil {
		t.Fatal(err)
	}
	one, err := os.ReadFile(recipients)
	if err != nil {
		t.Fatal(err)
	}
	write(t, recipients, string(more)+string(one)) // of two recipients, it is the second
	r := readRecipients(t, recipients)
	for _, n := range []int{1, 64 << 10, 2<<20 + 1} {
		object, trailer := plainObject(t, byName(t, "zstd"), content(n))
		stored, _ := seal(t, r, object, trailer, true)
		file := filepath.Join(t.TempDir(), name+".zst.age")
		write(t, file, string(stored))
		decrypted, err := exec.Command("age", "-d", "-i", identity, file).Output()
		if err != nil || !bytes.Equal(decrypted, object) {
			t.Fatalf("age prints something else: %v", err)
		}
		expand := exec.Command("zstd", "-dcq")
		expand.Stdin = bytes.NewReader(decrypted)
		if got, err := expand.Output(); err != nil || !bytes.Equal(got, content(n)) {
			t.Errorf("zstd prints something else: %v", err)
		}
	}
}

// Every byte counts, without a private key.
func TestEveryByte(t *testing.T) {
	recipients, _ := keys(t, false)
	object, trailer := plainObject(t, byName(t, "zstd"), content(100))
	stored, _ := seal(t, readRecipients(t, recipients), object, trailer, false)
	for i := range stored {
		bad := bytes.Clone(stored)
		bad[i] ^= 1
		if _, err := sealed.CheckStored(bytes.NewReader(bad), name+".zst.age"); !errors.Is(err, codec.ErrDamaged) {
			t.Fatalf("byte %d of %d: got %v, want ErrDamaged", i, len(stored), err)
		}
	}
	for n := range stored {
		if _, err := sealed.CheckStored(bytes.NewReader(stored[:n]), name+".zst.age"); !errors.Is(err, codec.ErrDamaged) {
			t.Fatalf("cut off after %d of %d: got %v, want ErrDamaged", n, len(stored), err)
		}
	}
	for i := range object {
		bad := bytes.Clone(object)
		bad[i] ^= 1
		if _, err := sealed.CheckStored(bytes.NewReader(bad), name+".zst"); !errors.Is(err, codec.ErrDamaged) {
			t.Fatalf("byte %d of %d that is not encrypted: got %v, want ErrDamaged", i, len(object), err)
		}
	}
	if c, err := sealed.CheckStored(bytes.NewReader(object), name+".zst"); err != nil || !c.Proven() || c.Size != int64(len(object)) {
		t.Errorf("got %+v, %v", c, err)
	}
}

// A volume of a backup is written as a stream, so that its hash is not in it.
func TestStream(t *testing.T) {
	recipients, identity := keys(t, false)
	object, _ := plainObject(t, byName(t, "zstd"), content(1<<20))
	var out bytes.Buffer
	s, err := readRecipients(t, recipients).SealStream(&out, byName(t, "zstd"), func(w io.Writer) error {
		_, err := w.Write(object)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Check(bytes.NewReader(out.Bytes())); err != nil {
		t.Error(err)
	}
	bad := bytes.Clone(out.Bytes())
	bad[len(bad)/2]++
	if err := s.Check(bytes.NewReader(bad)); err == nil {
		t.Error("another byte was read back, and that is no error")
	}
	c, err := sealed.CheckStored(&out, "data-0001.tar.zst.age")
	if err != nil || c.Proven() || c.SHA256 != s.SHA256 || c.Size != s.Size {
		t.Errorf("got %+v, %v", c, err)
	}
	o, err := sealed.Open(bytes.NewReader(bad), int64(len(bad)))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.Plain(sealed.NewIdentities(identity, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(io.NewSectionReader(p, 0, p.Size())); !errors.Is(err, codec.ErrDamaged) {
		t.Errorf("got %v, want ErrDamaged", err)
	}
}

// Any part can be read alone, as one stream.
func TestRanges(t *testing.T) {
	recipients, identity := keys(t, false)
	r := readRecipients(t, recipients)
	object := content(300<<10 + 17)
	var out bytes.Buffer
	if _, err := r.Seal(&out, func(w io.Writer) (sealed.Facts, error) {
		_, err := w.Write(object)
		return sealed.Facts{Codec: "zstd"}, err
	}); err != nil {
		t.Fatal(err)
	}
	o, err := sealed.Open(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.Plain(sealed.NewIdentities(identity, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	size := len(object)
	for _, at := range [][2]int{{0, size}, {0, 1}, {0, 64 << 10}, {64 << 10, 64 << 10}, {64<<10 - 1, 2}, {100 << 10, 100 << 10}, {size - 1, 1}, {size - 1, 100}, {size, 1}, {256 << 10, 1 << 20}} {
		want := object[at[0]:min(size, at[0]+at[1])]
		s, err := p.Reader(context.Background(), int64(at[0]), int64(at[1]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(s)
		s.Close()
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("from %d on, %d bytes: %d bytes and %v", at[0], at[1], len(got), err)
		}
		got = make([]byte, len(want))
		if n, err := p.ReadAt(got, int64(at[0])); n < len(want) || !bytes.Equal(got, want) {
			t.Errorf("from %d on, %d bytes: read %d, %v", at[0], at[1], n, err)
		}
	}
}

// What is wrong with keys is named by line, and no part of a key is.
func TestKeys(t *testing.T) {
	recipients, identity := keys(t, false)
	pq, _ := keys(t, true)
	read := func(file string) string {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	secret := strings.TrimSpace(strings.Split(read(identity), "\n")[1])
	for content, want := range map[string]string{
		"":                                     "names no recipient",
		"# nobody\n":                           "names no recipient",
		"age1qqqq\n":                           "line 1: that is no public key of age",
		read(recipients) + "\n" + secret:       "line 5: that is a private key",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA": "line 1: that is a key of SSH",
		read(recipients) + read(pq):            "post-quantum",
	} {
		file := filepath.Join(t.TempDir(), "recipients")
		write(t, file, content)
		_, err := sealed.ReadRecipients(file)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret[16:30]) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
	for content, want := range map[string]string{
		"":                      "holds none",
		secret[:len(secret)-1]:  "line 1: that is no private key",
		"\n" + read(recipients): "line 4: that is no private key",
	} {
		file := filepath.Join(t.TempDir(), "identity")
		write(t, file, content)
		err := sealed.NewIdentities(file, "", nil).Load()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret[16:30]) {
			t.Errorf("%q: got %v, want %q", content, err, want)
		}
	}
	for _, ids := range []*sealed.Identities{nil, sealed.NewIdentities("", "", nil)} {
		if err := ids.Load(); !errors.Is(err, sealed.ErrNoKey) {
			t.Errorf("got %v, want ErrNoKey", err)
		}
	}
	object, trailer := plainObject(t, byName(t, "zstd"), content(100))
	stored, _ := seal(t, readRecipients(t, recipients), object, trailer, false)
	o, err := sealed.Open(bytes.NewReader(stored), int64(len(stored)))
	if err != nil {
		t.Fatal(err)
	}
	_, other := keys(t, false)
	if _, err := o.Plain(sealed.NewIdentities(other, "", nil)); !errors.Is(err, sealed.ErrNoKey) || errors.Is(err, codec.ErrDamaged) {
		t.Errorf("got %v, want ErrNoKey", err)
	}
}

// A private key can be protected with a passphrase, in both forms that age writes.
func TestPassphrase(t *testing.T) {
	recipients, identity := keys(t, false)
	secret, err := os.ReadFile(identity)
	if err != nil {
		t.Fatal(err)
	}
	for _, armored := range []bool{false, true} {
		var out bytes.Buffer
		to, err := age.NewScryptRecipient("sesame")
		if err != nil {
			t.Fatal(err)
		}
		to.SetWorkFactor(10)
		var dst io.WriteCloser = nopCloser{&out}
		if armored {
			dst = armor.NewWriter(&out)
		}
		w, err := age.Encrypt(dst, to)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(secret)
		if err := errors.Join(w.Close(), dst.Close()); err != nil {
			t.Fatal(err)
		}
		file, word := filepath.Join(t.TempDir(), "identity"), filepath.Join(t.TempDir(), "word")
		write(t, file, out.String())
		write(t, word, "sesame\n")
		object, trailer := plainObject(t, byName(t, "zstd"), content(100))
		stored, _ := seal(t, readRecipients(t, recipients), object, trailer, false)
		o, err := sealed.Open(bytes.NewReader(stored), int64(len(stored)))
		if err != nil {
			t.Fatal(err)
		}
		for _, ids := range []*sealed.Identities{sealed.NewIdentities(file, word, nil), sealed.NewIdentities(file, "", func() (string, error) { return "sesame", nil })} {
			if _, err := o.Plain(ids); err != nil {
				t.Error(err)
			}
		}
		write(t, word, "wrong")
		for ids, want := range map[*sealed.Identities]string{sealed.NewIdentities(file, word, nil): "does not open it", sealed.NewIdentities(file, "", nil): "is protected with a passphrase"} {
			if err := ids.Load(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Of several processes that make the comparison key at once, all get the same.
func TestCompareKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "recipients")
	var tags sync.Map
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			k, err := sealed.MakeCompareKey(file)
			if err != nil {
				t.Error(err)
				return
			}
			tags.Store(k.Tag(name, 1, [16]byte{}), true)
		})
	}
	group.Wait()
	n := 0
	tags.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d keys were made", n)
	}
	k, err := sealed.MakeCompareKey(file)
	if err != nil {
		t.Fatal(err)
	}
	one := k.Tag(name, 1, [16]byte{})
	if one == k.Tag(name, 2, [16]byte{}) || one == k.Tag("00000002.history", 1, [16]byte{}) || one == k.Tag(name, 1, [16]byte{1}) {
		t.Error("other files have the same tag")
	}
}

func TestByExt(t *testing.T) {
	for name, want := range map[string]string{
		"a/" + name + ".zst": ".zst", name + ".zst.age": ".zst.age", name: "", name + ".age": ".age", "data-0001.tar.lz4.age": ".lz4.age",
		name + ".partial.zst": ".zst", name + ".partial": "",
	} {
		if got := sealed.ExtOf(name); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if _, _, ok := sealed.ByExt(".zip.age"); ok {
		t.Error("there is no codec for .zip.age")
	}
}

// What an earlier version wrote can be read.
func TestGolden(t *testing.T) {
	identity, object := filepath.Join("testdata", "identity"), filepath.Join("testdata", name+".zst.age")
	if *update {
		recipients, private := keys(t, false)
		secret, err := os.ReadFile(private)
		if err != nil {
			t.Fatal(err)
		}
		write(t, identity, string(secret))
		plain, trailer := plainObject(t, byName(t, "zstd"), content(1000))
		stored, _ := seal(t, readRecipients(t, recipients), plain, trailer, false)
		write(t, object, string(stored))
	}
	stored, err := os.ReadFile(object)
	if err != nil {
		t.Fatal(err)
	}
	o, err := sealed.Open(bytes.NewReader(stored), int64(len(stored)))
	if err != nil {
		t.Fatal(err)
	}
	if f := o.Facts; f.PlainSize != 1000 || f.SystemID != 4711 || f.Start != 0x28000000 || f.End != 0x28000100 || f.Timeline != 1 || f.WALCheck != codec.Intact {
		t.Errorf("facts are %+v", f)
	}
	if err := o.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	p, err := o.Plain(sealed.NewIdentities(identity, "", nil))
	if err != nil {
		t.Fatal(err)
	}
	back, err := codec.OpenObject(byName(t, "zstd"), p, p.Size())
	if err != nil {
		t.Fatal(err)
	}
	got := codec.Memory{Limit: 1000}
	if err := back.Unpack(t.Context(), &got); err != nil || !bytes.Equal(got.Bytes(), content(1000)) {
		t.Errorf("expanded otherwise: %v", err)
	}
}

// FuzzOpen reads arbitrary bytes as a sealed object.
func FuzzOpen(f *testing.F) {
	stored, err := os.ReadFile(filepath.Join("testdata", name+".zst.age"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(stored)
	f.Add([]byte("age-encryption.org/v1\n-> walkeep 1\n\n--- "))
	ids := sealed.NewIdentities(filepath.Join("testdata", "identity"), "", nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		o, err := sealed.Open(bytes.NewReader(b), int64(len(b)))
		c, wrong := sealed.CheckStored(bytes.NewReader(b), name+".zst.age")
		if err != nil {
			if !errors.Is(err, codec.ErrDamaged) || wrong == nil {
				t.Fatalf("Open: %v, CheckStored: %v", err, wrong)
			}
			return
		}
		if wrong == nil && c.Size != int64(len(b)) {
			t.Fatalf("%d bytes instead of %d", c.Size, len(b))
		}
		if p, err := o.Plain(ids); err == nil {
			io.Copy(io.Discard, io.NewSectionReader(p, 0, p.Size()))
		}
	})
}
