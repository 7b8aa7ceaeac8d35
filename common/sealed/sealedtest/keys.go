// Package sealedtest makes keys for tests of encrypted archives.
package sealedtest

import (
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"walkeep/common/sealed"
)

// Keys are the files of a pair of keys.
type Keys struct {
	Recipients string // the list of recipients, in a directory of its own
	Identity   string // the private key
}

// New makes a pair of keys.
func New(t testing.TB) Keys {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	k := Keys{filepath.Join(t.TempDir(), "recipients"), filepath.Join(t.TempDir(), "identity")}
	for file, content := range map[string]string{k.Recipients: id.Recipient().String(), k.Identity: id.String()} {
		if err := os.WriteFile(file, []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// To returns the recipients.
func (k Keys) To(t testing.TB) *sealed.Recipients {
	t.Helper()
	r, err := sealed.ReadRecipients(k.Recipients)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Compare returns the key for comparisons.
func (k Keys) Compare(t testing.TB) *sealed.CompareKey {
	t.Helper()
	key, err := sealed.MakeCompareKey(k.Recipients)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Private returns the private key.
func (k Keys) Private() *sealed.Identities { return sealed.NewIdentities(k.Identity, "", nil) }
