package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"walkeep/common/account"
	"walkeep/common/archive"
	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/durable"
	"walkeep/common/storage/local"
	"walkeep/supervisor/repository"
	"walkeep/supervisor/restore"
)

// A feed is what the restore-cmd of a server reads: a spool on this host, and a configuration file that names the repositories
// from which it has WAL fetched into the spool. On a host without one of them they are made in a directory of their own.
type feed struct {
	spool   string   // absolute; empty if the server does not use restore-cmd
	file    string   // absolute; empty if no configuration file is named
	dir     string   // what is made; empty if nothing is
	keys    []string // options of restore-cmd that name the private keys
	content string   // of the file in dir; empty if the user's file serves
	holder  string   // the data directory of the server
	fresh   bool     // build has made dir
}

// besideSuffix makes the name of the directory of a feed from that of the data directory.
const besideSuffix = ".walkeep"

// feedIn returns the feed for a server. If something has to be made for it, that is to be made in dir. holder is the data directory.
// alone makes the server read the chosen repository and nothing else, if one is chosen.
func (call *invocation) feedIn(dir, holder string, alone bool) (f feed, err error) {
	made := call.RepoURL != "" || alone && call.Repo != ""
	f.holder = holder
	path, named := config.Find(call.File)
	if named {
		f.file = path
	}
	if made {
		f.dir, f.file = dir, filepath.Join(dir, "walkeep.ini")
	}
	switch f.spool = call.Spool; {
	case f.spool != "" && !(alone && made):
	case len(call.List) == 0:
		return f, config.ErrNoSpool
	default:
		f.dir, f.spool = dir, filepath.Join(dir, "spool")
	}
	d := call.Decryption
	for _, path := range []*string{&f.spool, &f.file, &f.dir, &d.IdentityFile, &d.IdentityPassphraseFile} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return f, err
		}
	}
	for _, o := range []struct{ key, file string }{{"identity-file", d.IdentityFile}, {"identity-passphrase-file", d.IdentityPassphraseFile}} {
		if o.file != "" {
			f.keys = append(f.keys, "--"+o.key, o.file)
		}
	}
	if made {
		f.content, err = f.configuration(call.Chosen())
	}
	return f, err
}

// configuration returns the content of a configuration file for restore-cmd, and for commands that work on the server. It holds
// no secrets: a repository's are in files and in the environment.
func (f *feed) configuration(all []config.Repository) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Made by walkeep for the server in %s, which has WAL fetched from here.\nspool = %s\n", f.holder, f.spool)
	for i := 0; i < len(f.keys); i += 2 {
		fmt.Fprintf(&b, "%s = %s\n", strings.TrimPrefix(f.keys[i], "--"), f.keys[i+1])
	}
	for _, r := range all {
		section, err := r.Section()
		if err != nil {
			return "", err
		}
		b.WriteString("\n" + section)
	}
	return b.String(), nil
}

// build makes what is to be made, for the owner of the data directory if this program is root. What an earlier call has made
// serves again.
func (f *feed) build() error {
	if f.dir == "" {
		return nil
	}
	var owner account.Account
	if account.Root() {
		var err error
		if owner, err = account.OwnerOf(f.holder); err != nil {
			return err
		}
	}
	if err := os.Mkdir(f.dir, durable.DirMode); err == nil {
		f.fresh = true
	} else if !errors.Is(err, fs.ErrExist) {
		return cli.Hinted(fmt.Errorf("make a directory for the WAL that the server fetches: %w", err), "make an empty directory for it, and name it with --spool, in a configuration file that also names the repository")
	}
	err := f.fill(owner)
	if err != nil {
		f.discard()
	}
	return err
}

func (f *feed) fill(owner account.Account) error {
	info, err := os.Lstat(f.dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", f.dir)
	}
	if f.fresh {
		if err := owner.GiveDir(f.dir); err != nil {
			return err
		}
	}
	if f.spool == filepath.Join(f.dir, "spool") {
		switch err := os.Mkdir(f.spool, durable.DirMode); {
		case err == nil:
			if err := owner.GiveDir(f.spool); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	if f.content == "" {
		return nil
	}
	if err := durable.WriteFile(f.file, []byte(f.content)); err != nil {
		return err
	}
	return owner.Give(f.file)
}

// remove removes the files that a server no longer needs after its recovery.
func (f *feed) remove() {
	if f.dir == "" {
		return
	}
	spool, done := filepath.Join(f.dir, "spool"), filepath.Join(f.dir, "done")
	if durable.Replace(spool, done) != nil { // a process that still fetches WAL makes no more files in it then
		done = spool
	}
	durable.RemoveAll(done)
	os.Remove(filepath.Join(f.dir, "walkeep.ini"))
	os.Remove(f.dir)
}

// discard removes what build has made.
func (f *feed) discard() {
	if f.fresh {
		os.RemoveAll(f.dir)
	}
}

// withdrawOffer removes what the server of a data directory was offered for a promotion that was cut short.
func (f feed) withdrawOffer(ctx context.Context, data string) error {
	if f.spool == "" {
		return nil
	}
	b, err := local.Open(f.spool)
	if err != nil {
		return err
	}
	n := archive.New(b).Notes()
	id, err := n.StandbyHere(ctx, data)
	if err == nil {
		err = n.WithdrawOffer(ctx, id)
	}
	return err
}

// bind makes an empty spool an archive of the cluster of a, so that run ships from it what restore-cmd notes of a standby. Root does
// not: the spool is the server's.
func (f feed) bind(ctx context.Context, a *archive.Archive) error {
	if f.spool == "" || account.Root() {
		return nil
	}
	id, err := a.Identity(ctx)
	if err != nil {
		return err
	}
	b, err := local.Open(f.spool)
	if err != nil {
		return err
	}
	return archive.New(b).Bind(ctx, id)
}

// reportFeed prints from where the server fetches WAL, if that is more than a spool of the configuration.
func (call *invocation) reportFeed(r restore.Options, f feed) {
	if f.dir != "" {
		until := "can be removed when it has recovered"
		if r.Recovery.Standby != nil {
			until = "must stay as long as it is a standby"
		}
		fmt.Fprintf(call.out, "its restore_command fetches WAL by way of %s, which %s\n", f.dir, until)
	}
	if f.dir != "" && r.Recovery.Standby != nil && f.content != "" {
		fmt.Fprintf(call.out, "commands that work on it: %s and the like\n", cli.Call("--config", f.file, "promote"))
	}
	if r.Recovery.Command != "" && f.file != "" {
		call.warnEnvironment()
	}
}

// avoid returns the directories that hold what the server is recovered from.
func (call *invocation) avoid(f feed) (all []string) {
	for _, dir := range []string{f.spool, f.dir} {
		if dir != "" {
			all = append(all, dir)
		}
	}
	for _, r := range call.List {
		if dir := repository.Directory(r); dir != "" {
			all = append(all, dir)
		}
	}
	return all
}

// warnEnvironment names the environment variables in which the server's restore-cmd finds the credentials of repositories. This
// program has them, and so has a server that it starts.
func (call *invocation) warnEnvironment() {
	var names []string
	for _, r := range call.Used() {
		for _, name := range r.Environment() {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) > 0 {
		call.msg.Warn("", "the server fetches WAL with what is set in %s: whoever starts it must have set that, also later", strings.Join(names, ", "))
	}
}
