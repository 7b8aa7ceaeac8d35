package sftp

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"walkeep/common/cli"
	"walkeep/common/storage"
)

// A final error is one that another call would give as well, such as that of a host whose key is not known. It counts as
// storage.ErrDenied, without its words.
type final struct{ error }

func (f final) Unwrap() error        { return f.error }
func (f final) Is(target error) bool { return target == storage.ErrDenied }

// hostKeyKinds are the kinds of host keys with their algorithms, the preferred one first.
var hostKeyKinds = [][]string{
	{ssh.KeyAlgoED25519},
	{ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521},
	{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
}

// hostKeys decides which host keys are accepted. None is accepted that is not known.
type hostKeys struct {
	known       ssh.HostKeyCallback // nil where a fingerprint is given
	fingerprint string
	file        string
}

func newHostKeys(o Options) (*hostKeys, error) {
	h := &hostKeys{fingerprint: o.HostKey, file: o.KnownHosts}
	if o.HostKey != "" {
		if !strings.HasPrefix(o.HostKey, "SHA256:") {
			return nil, fmt.Errorf("host-key: %q has not the form SHA256:... of a fingerprint", o.HostKey)
		}
		h.fingerprint = strings.TrimRight(o.HostKey, "=")
		return h, nil
	}
	files := []string{o.KnownHosts}
	if _, err := os.Stat(o.KnownHosts); errors.Is(err, fs.ErrNotExist) {
		files = nil // no host is known
	}
	var err error
	if h.known, err = knownhosts.New(files...); err != nil {
		return nil, fmt.Errorf("read the file of known hosts: %w", err)
	}
	return h, nil
}

// algorithms gives the lists of algorithms to ask the host for, one after the other, until a key is accepted. A host shows
// one of its keys, and must be asked for one that is known.
func (h *hostKeys) algorithms(address string) [][]string {
	if h.known == nil {
		return hostKeyKinds
	}
	none, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return [][]string{nil}
	}
	var known []string
	var refused *knownhosts.KeyError
	if errors.As(h.known(address, &net.TCPAddr{}, none), &refused) {
		for _, kind := range hostKeyKinds {
			for _, want := range refused.Want {
				if t := want.Key.Type(); slices.Contains(kind, t) || t == ssh.KeyAlgoRSA && slices.Contains(kind, ssh.KeyAlgoRSASHA256) {
					known = append(known, kind...)
					break
				}
			}
		}
	}
	return [][]string{known} // empty: those that the library prefers
}

// check returns an error for a key that is not accepted.
func (h *hostKeys) check(address string, remote net.Addr, key ssh.PublicKey) error {
	offered := key.Type() + " " + ssh.FingerprintSHA256(key)
	if h.known == nil {
		if ssh.FingerprintSHA256(key) == h.fingerprint {
			return nil
		}
		return final{cli.NewError(
			fmt.Sprintf("host %s is not the one that host-key names: it offers the key %s", address, offered),
			"find out why the key differs before you change host-key: another machine may have answered")}
	}
	err := h.known(address, remote, key)
	var refused *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &revoked):
		return final{fmt.Errorf("host %s offers a key that %s revokes: %s", address, h.file, offered)}
	case errors.As(err, &refused) && len(refused.Want) > 0:
		return final{cli.NewError(
			fmt.Sprintf("host %s is not the one that is known: it offers the key %s, and %s has another one in line %d", address, offered, h.file, refused.Want[0].Line),
			"find out why the key differs before you change the file: another machine may have answered")}
	case errors.As(err, &refused):
		return final{cli.NewError(
			fmt.Sprintf("host %s is not known: it offers the key %s, and %s does not have the host", address, offered, h.file),
			"compare the fingerprint with the one that `ssh-keygen -lf` prints on the server for its key in /etc/ssh; if they are equal, set host-key to it, or add the key to the file of known hosts")}
	default:
		return fmt.Errorf("check the key of host %s: %w", address, err)
	}
}
