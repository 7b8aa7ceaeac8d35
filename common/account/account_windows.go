package account

import (
	"io/fs"
	"os"
	"os/exec"

	"golang.org/x/sys/windows"
)

// An Account is a user of this system, or are several that may write to the same files. Files get the rights of the directory that
// they are made in.
type Account struct {
	Name string
	sids []string // empty: they are not known
}

// Root reports whether this program can give files.
func Root() bool { return false }

// OwnerOf returns the accounts that a file or directory names as those who may write to it. The owner, which is often the group of
// administrators, says nothing about who uses it.
func OwnerOf(path string) (Account, error) {
	a := Account{Name: "the server's user"}
	if _, err := os.Stat(path); err != nil {
		return a, err
	}
	if d, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION); err == nil {
		if sids, named := writers(d.String()); named {
			a.sids = sids
		}
	}
	return a, nil
}

// Named reports whether it is known who the account is.
func (a Account) Named() bool { return len(a.sids) > 0 }

// Protect lets nobody use a file or directory that this program has made but the account, the system, administrators, walkeep's
// service, and the user of this program. Where the account is not known, the rights of the directory that contains it stay.
func (a Account) Protect(path string) error {
	if !a.Named() {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	sids := append([]string{serviceSID(Service)}, a.sids...)
	if token := windows.GetCurrentProcessToken(); !token.IsElevated() {
		u, err := token.GetTokenUser()
		if err != nil {
			return err
		}
		sids = append(sids, u.User.Sid.String())
	}
	d, err := windows.SecurityDescriptorFromString(private(info.IsDir(), sids))
	if err != nil {
		return err
	}
	dacl, _, err := d.DACL()
	if err != nil {
		return err
	}
	return set(path, dacl, windows.PROTECTED_DACL_SECURITY_INFORMATION)
}

// set replaces the access rights of a file or directory, and of what inherits from it.
func set(path string, dacl *windows.ACL, inherits windows.SECURITY_INFORMATION) error {
	if err := windows.SetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION|inherits, nil, nil, dacl, nil); err != nil {
		return &fs.PathError{Op: "set the access rights of", Path: path, Err: err}
	}
	return nil
}

// Admit lets the virtual account of walkeep's service write to a directory and what is in it, or read a file, in addition to those
// who may already.
func Admit(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	sid, err := windows.StringToSid(serviceSID(Service))
	if err != nil {
		return err
	}
	entry := windows.EXPLICIT_ACCESS{
		AccessPermissions: windows.GENERIC_READ, AccessMode: windows.GRANT_ACCESS,
		Trustee: windows.TRUSTEE{TrusteeForm: windows.TRUSTEE_IS_SID, TrusteeValue: windows.TrusteeValueFromSID(sid)},
	}
	if info.IsDir() {
		entry.AccessPermissions = modify
		entry.Inheritance = windows.SUB_CONTAINERS_AND_OBJECTS_INHERIT
	}
	d, err := windows.GetNamedSecurityInfo(path, windows.SE_FILE_OBJECT, windows.DACL_SECURITY_INFORMATION)
	if err != nil {
		return &fs.PathError{Op: "read the access rights of", Path: path, Err: err}
	}
	before, _, err := d.DACL()
	if err != nil {
		return err
	}
	after, err := windows.ACLFromEntries([]windows.EXPLICIT_ACCESS{entry}, before)
	if err != nil {
		return err
	}
	return set(path, after, 0)
}

func (Account) IsRoot() bool                    { return false }
func (Account) Gives() bool                     { return false }
func (Account) Ours() bool                      { return true }
func (Account) Give(string) error               { return nil }
func (Account) GiveFile(*os.File) error         { return nil }
func (Account) GiveDir(string) error            { return nil }
func (Account) GiveLink(*os.Root, string) error { return nil }
func (Account) Owns(fs.FileInfo) bool           { return true }
func (Account) Reads(fs.FileInfo) bool          { return true }
func (Account) Enters(string) (string, bool)    { return "", true }
func (Account) Use(*exec.Cmd)                   {}
