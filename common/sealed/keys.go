package sealed

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
	"filippo.io/age/armor"

	"walkeep/common/cli"
	"walkeep/common/durable"
)

// CompareKeyName is the name of the file that holds the comparison key, in the directory of the list of recipients.
const CompareKeyName = "compare-key"

const maxKeys = 1 << 20 // bytes of any file of keys

// Errors of keys, to be found with errors.Is. They say nothing about whether an object is there, or is damaged.
var (
	// ErrNoKey says that an object is encrypted and that no private key is there that opens it.
	ErrNoKey = cli.NewError("it is encrypted, and no private key is given", "name the file of the private key: identity-file")
	// ErrNoCompareKey says that the content of an encrypted object cannot be compared, because the key for comparisons is missing, or
	// is another one.
	ErrNoCompareKey = cli.NewError("it is encrypted, and cannot be compared without the key for comparisons that it was made with",
		"copy the file "+CompareKeyName+" from the host that has archived it into the directory of the list of recipients (recipients-file)")

	errOtherKey = cli.Hinted(otherKey{}, "use the private key of one of those for whom it was encrypted")
)

// otherKey is ErrNoKey where there are keys.
type otherKey struct{}

func (otherKey) Error() string        { return "it is encrypted, and no private key that is given opens it" }
func (otherKey) Is(target error) bool { return target == ErrNoKey }

// Recipients are those for whom objects are encrypted. They may be used concurrently.
type Recipients struct{ list []age.Recipient }

// ReadRecipients reads a list of recipients. No error contains a part of a key.
func ReadRecipients(file string) (*Recipients, error) {
	content, err := readKeys(file)
	if err != nil {
		return nil, fmt.Errorf("read the list of recipients: %w", err)
	}
	list, err := parseRecipients(content)
	if err != nil {
		return nil, fmt.Errorf("read the list of recipients: %s, %w", file, err)
	}
	return &Recipients{list}, nil
}

func readKeys(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxKeys+1))
	if err == nil && len(content) > maxKeys {
		err = fmt.Errorf("%s has more than %d bytes", file, maxKeys)
	}
	return content, err
}

// parseRecipients reads the public keys of a list.
func parseRecipients(content []byte) ([]age.Recipient, error) {
	var list []age.Recipient
	hybrid := 0
	err := eachLine(content, func(line string) error {
		switch {
		case strings.HasPrefix(strings.ToUpper(line), "AGE-SECRET-KEY-"):
			return errors.New("that is a private key, which does not belong here")
		case strings.HasPrefix(line, "ssh-"):
			return cli.NewError("that is a key of SSH, for which nothing is encrypted", "make a pair of keys with age-keygen")
		}
		found, err := age.ParseRecipients(strings.NewReader(line))
		if err != nil || len(found) != 1 {
			return cli.NewError("that is no public key of age", "make a pair of keys with age-keygen; a public key begins with age1")
		}
		if _, ok := found[0].(*age.HybridRecipient); ok {
			hybrid++
		}
		list = append(list, found[0])
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case len(list) == 0:
		return nil, errors.New("which names no recipient")
	case hybrid > 0 && hybrid < len(list):
		return nil, cli.NewError("it has post-quantum keys (age1pq1...) and others: the others would make the former useless", "list keys of one kind")
	}
	return list, nil
}

// eachLine calls parse for each line that counts. Its error names the line.
func eachLine(content []byte, parse func(string) error) error {
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, maxKeys)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		if err := parse(line); err != nil {
			return fmt.Errorf("line %d: %w", n, err)
		}
	}
	return lines.Err()
}

// A CompareKey is the key for comparisons of plain bytes.
type CompareKey struct{ key [32]byte }

// A Tag identifies the name and the plain bytes of a file to those who have the key for comparisons. Its zero value is none.
type Tag struct {
	Sum [16]byte
	Key [4]byte // which key it was made with
}

// Tag is the comparison tag of the plain file of this name and size, with this XXH3-128.
func (k *CompareKey) Tag(name string, size uint64, hash [16]byte) Tag {
	sum := func(parts ...[]byte) []byte {
		m := hmac.New(sha256.New, k.key[:])
		for _, p := range parts {
			m.Write(p)
		}
		return m.Sum(nil)
	}
	return Tag{[16]byte(sum(hash[:], binary.LittleEndian.AppendUint64(nil, size), []byte(name))), [4]byte(sum([]byte("id")))}
}

// MakeCompareKey reads the comparison key beside a list of recipients, or makes it. Of several processes that make it at once,
// all get the same.
func MakeCompareKey(recipients string) (*CompareKey, error) {
	file := filepath.Join(filepath.Dir(recipients), CompareKeyName)
	k, err := readCompareKey(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	var fresh [32]byte
	rand.Read(fresh[:]) // never fails
	f, err := durable.Create(file)
	if err == nil {
		if _, err = f.Write([]byte(hex.EncodeToString(fresh[:]) + "\n")); err == nil {
			err = f.Commit(nil)
		}
		f.Discard()
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, cli.Hinted(fmt.Errorf("make the key for comparisons: %w", err),
			"encrypted WAL is compared by the key in "+file+": copy it from another host of the cluster, or let the server's user write to its directory")
	}
	return readCompareKey(file)
}

func readCompareKey(file string) (*CompareKey, error) {
	content, err := readKeys(file)
	if err != nil {
		return nil, fmt.Errorf("read the key for comparisons: %w", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(content)))
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("read the key for comparisons: %s does not hold 64 hexadecimal digits", file)
	}
	return &CompareKey{[32]byte(key)}, nil
}

// Identities are private keys. They are read from their file when an encrypted object is opened for the first time. They may
// be used concurrently.
type Identities struct {
	file, passphrase string
	ask              func() (string, error)

	once sync.Once
	list []age.Identity
	err  error
}

// NewIdentities names the file of the private keys. Where that is protected with a passphrase, the passphrase is what the file of this
// name holds, without the line feed at its end; or what ask returns, unless it is nil.
func NewIdentities(file, passphrase string, ask func() (string, error)) *Identities {
	return &Identities{file: file, passphrase: passphrase, ask: ask}
}

// Load reads the keys, so that what is wrong with them is known. Without keys the error is [ErrNoKey].
func (i *Identities) Load() error {
	_, err := i.load()
	return err
}

func (i *Identities) load() ([]age.Identity, error) {
	if i == nil || i.file == "" {
		return nil, ErrNoKey
	}
	i.once.Do(func() { i.list, i.err = i.read() })
	return i.list, i.err
}

func (i *Identities) read() ([]age.Identity, error) {
	content, err := readKeys(i.file)
	if err == nil && isProtected(content) {
		content, err = i.unlock(content)
	}
	if err != nil {
		return nil, fmt.Errorf("read the private key: %w", err)
	}
	var list []age.Identity
	err = eachLine(content, func(line string) error {
		found, err := age.ParseIdentities(strings.NewReader(line))
		if err != nil {
			return errors.New("that is no private key of age") // whose own error may quote it
		}
		list = append(list, found...)
		return nil
	})
	if err == nil && len(list) == 0 {
		err = errors.New("it holds none")
	}
	if err != nil {
		return nil, fmt.Errorf("read the private key: %s, %w", i.file, err)
	}
	return list, nil
}

func isProtected(content []byte) bool {
	return bytes.HasPrefix(content, []byte(intro)) || bytes.HasPrefix(bytes.TrimSpace(content), []byte(armor.Header))
}

// unlock decrypts a file of keys that is protected with a passphrase.
func (i *Identities) unlock(content []byte) ([]byte, error) {
	var word string
	switch {
	case i.passphrase != "":
		text, err := readKeys(i.passphrase)
		if err != nil {
			return nil, fmt.Errorf("read its passphrase: %w", err)
		}
		word = strings.TrimRight(string(text), "\r\n")
	case i.ask != nil:
		var err error
		if word, err = i.ask(); err != nil {
			return nil, err
		}
	default:
		return nil, cli.Hinted(fmt.Errorf("%s is protected with a passphrase", i.file), "name a file that holds the passphrase: identity-passphrase-file")
	}
	id, err := age.NewScryptIdentity(word)
	if err != nil {
		return nil, errors.New("the passphrase is empty")
	}
	var src io.Reader = bytes.NewReader(content)
	if !bytes.HasPrefix(content, []byte(intro)) {
		src = armor.NewReader(bytes.NewReader(bytes.TrimSpace(content)))
	}
	r, err := age.Decrypt(src, id)
	if err != nil {
		return nil, fmt.Errorf("%s: the passphrase does not open it", i.file)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxKeys))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", i.file, err)
	}
	return plain, nil
}
