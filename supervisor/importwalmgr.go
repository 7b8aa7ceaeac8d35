package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/supervisor/walmgr"
)

const aboutImportWalmgr = `Converts a configuration file of walmgr (SkyTools 2.1 or 3; sections [walmgr],
[wal-master] or [wal-slave]) to a walkeep.ini. The result has every parameter:
as a key of walkeep, or in a comment that explains what to do instead.
Passwords are left out. Nothing else is read or changed.

docs/from-walmgr.md explains the way from a walmgr pair to a walkeep pair. Run this on
each of the two hosts, with its own file, as the user who runs PostgreSQL.`

type importWalmgrOptions struct {
	Output string `long:"output" value-name:"FILE" description:"write the result to this file, which must not exist (else to standard output)"`
	Args   struct {
		File string `positional-arg-name:"FILE" description:"walmgr's configuration file"`
	} `positional-args:"yes" required:"yes"`
}

func importWalmgrCommand() command {
	var o importWalmgrOptions
	return command{
		Subcommand: config.Subcommand{
			Name: "import-walmgr", Short: "convert walmgr's configuration to walkeep.ini", About: aboutImportWalmgr, Options: &o, NoSpool: true,
		},
		run: func(ctx context.Context, call *invocation) error { return importWalmgr(call, o) },
	}
}

func importWalmgr(call *invocation, o importWalmgrOptions) error {
	file := o.Args.File
	content, err := os.ReadFile(file)
	if err != nil {
		return cli.Fail(exitFailed, fmt.Errorf("read walmgr's configuration: %w", err), "")
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	r, err := walmgr.Convert(content, walmgr.Options{File: filepath.ToSlash(file), Host: host, Home: home})
	if err != nil {
		return cli.Fail(exitFailed, fmt.Errorf("%s is not walmgr's configuration: %w", file, err), "name the file that walmgr was called with, such as wal-master.ini or wal-slave.ini")
	}
	if err := deliver(call, o.Output, r.Text); err != nil {
		return err
	}
	for _, w := range r.Warnings {
		call.msg.Warn("", "%s", w)
	}
	if r.Password {
		call.msg.Warn("put it into the password file (~/.pgpass) of the user who runs walkeep", "%s holds a password, which is not copied", file)
	}
	if r.Primary {
		call.msg.Next("read what was made and put it in its place; then " + cli.Call("setup", "--dry-run") + " shows what will be set on the server, and docs/from-walmgr.md the way from there")
	} else {
		call.msg.Next("read what was made and put it in its place; when the primary has been set up (" + cli.Call("setup") + ") and backed up, " + cli.Call("restore", "--standby") + " makes this host's server, see docs/from-walmgr.md")
	}
	return nil
}

// deliver writes the result to a new file, or to standard output.
func deliver(call *invocation, file string, text []byte) error {
	if file == "" {
		_, err := call.out.Write(text)
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return cli.Fail(exitFailed, fmt.Errorf("%s already exists, and is left as it is", file), "name another file with --output, and compare the two")
	}
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Close()); err != nil {
		err = errors.Join(err, os.Remove(file)) // an incomplete file would look complete
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}

// home returns a user's home directory, for walmgr.Options; empty if it is unknown.
func home(name string) string {
	if name == "" {
		dir, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		return filepath.ToSlash(dir)
	}
	u, err := user.Lookup(name)
	if err != nil {
		return ""
	}
	return filepath.ToSlash(u.HomeDir)
}
