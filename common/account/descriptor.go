package account

import (
	"crypto/sha1"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
)

// Service is the name of walkeep's service. On Windows it has a virtual account of that name.
const Service = "walkeep"

// serviceSID returns the security identifier of the virtual account of a service, NT SERVICE\NAME. Windows derives it from the
// name, so it can be named before the service is installed.
func serviceSID(name string) string {
	var b []byte
	for _, c := range utf16.Encode([]rune(strings.ToUpper(name))) {
		b = binary.LittleEndian.AppendUint16(b, c)
	}
	h := sha1.Sum(b)
	sid := "S-1-5-80"
	for i := 0; i < len(h); i += 4 {
		sid += "-" + strconv.FormatUint(uint64(binary.LittleEndian.Uint32(h[i:])), 10)
	}
	return sid
}

// modify are the rights to everything but changes of the descriptor.
const modify = 0x1301bf

// private returns the security descriptor of a directory or a file that the system, administrators and the given accounts alone may
// use. It inherits nothing of the directory that it lies in.
func private(isDir bool, accounts []string) string {
	flags := ""
	if isDir {
		flags = "OICI"
	}
	text := "D:PAI"
	for _, a := range []string{"SY", "BA"} {
		text += fmt.Sprintf("(A;%s;FA;;;%s)", flags, a)
	}
	for _, a := range accounts {
		text += fmt.Sprintf("(A;%s;%#x;;;%s)", flags, modify, a)
	}
	return text
}

// writers returns the accounts that a security descriptor lets write. It reports whether these are named: not so where groups
// that nearly everyone is in may write, or nobody but the system and administrators.
func writers(descriptor string) (accounts []string, named bool) {
	_, dacl, _ := strings.Cut(descriptor, "D:")
	named = true
	for entry := range strings.SplitSeq(dacl, "(") {
		entry, _, _ = strings.Cut(entry, ")")
		f := strings.Split(entry, ";") // type, flags, rights, object, inherited object, account
		if len(f) < 6 || f[0] != "A" || !writes(f[2]) {
			continue
		}
		switch who := f[5]; who {
		case "SY", "BA", "CO": // the last stands for the account that makes a file
		case "WD", "AU", "BU", "IU", "BG", "AN":
			named = false
		default:
			if !slices.Contains(accounts, who) {
				accounts = append(accounts, who)
			}
		}
	}
	return accounts, named && len(accounts) > 0
}

// writes reports whether rights in a descriptor's entry let write into a file.
func writes(rights string) bool {
	if n, err := strconv.ParseUint(rights, 0, 32); err == nil {
		const writeData, genericWrite, genericAll = 0x2, 0x40000000, 0x10000000
		return n&(writeData|genericWrite|genericAll) != 0
	}
	for ; len(rights) >= 2; rights = rights[2:] {
		if slices.Contains([]string{"FA", "FW", "GA", "GW"}, rights[:2]) {
			return true
		}
	}
	return false
}
