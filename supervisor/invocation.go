package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"strconv"

	"golang.org/x/term"

	"walkeep/common/cli"
	"walkeep/common/config"
	"walkeep/common/sealed"
	"walkeep/supervisor/repository"
	"walkeep/supervisor/service"
	"walkeep/supervisor/spool"
)

// An invocation is one call of a command: its configuration, and where its results and messages go.
type invocation struct {
	config.Config
	config.Called
	repositories *repository.Set
	keys         *sealed.Identities // of a command that reads what is encrypted; see unlock
	unattended   bool               // nobody can be asked
	args         []string           // of the program, which run reads again on SIGHUP
	out          io.Writer          // receives what the user asked for
	msg          *cli.Messages      // receives warnings, hints and details
}

// newInvocation is the only constructor of an invocation.
func newInvocation(c config.Config, called config.Called, repositories *repository.Set, args []string, out io.Writer, msg *cli.Messages) *invocation {
	return &invocation{Config: c, Called: called, repositories: repositories, args: args, out: out, msg: msg}
}

// logged returns the invocation of a command that run starts. Results and messages become records of the log; flush writes the
// last line where it is not complete.
func logged(c config.Config, repositories *repository.Set, log *slog.Logger) (call *invocation, flush func()) {
	out, messages := &service.LogWriter{Log: log}, &service.LogWriter{Log: log}
	msg := cli.NewMessages(messages)
	msg.Verbose, msg.Quiet = c.Verbose, c.Quiet
	c.Quiet = true // no progress bars
	call = newInvocation(c, config.Called{}, repositories, nil, out, msg)
	call.unattended = true
	return call, func() { out.Close(); messages.Close() }
}

// openSpoolAlone opens the spool for a command that stores no file in it.
func (call *invocation) openSpoolAlone() (*spool.Spool, error) {
	if call.Spool == "" {
		return nil, usage(config.ErrNoSpool)
	}
	return spool.Open(call.Spool)
}

// openSpool opens the spool for a command that stores files in it.
func (call *invocation) openSpool() (*spool.Spool, error) {
	s, err := call.openSpoolAlone()
	if err != nil {
		return nil, err
	}
	s.Store, err = call.storer(s)
	return s, err
}

// storer returns the function that archives a file into the spool, by the archive-cmd beside this program.
func (call *invocation) storer(s *spool.Spool) (func(context.Context, string) error, error) {
	program, err := cli.Sibling("archive-cmd")
	if err != nil {
		return nil, err
	}
	args := []string{"--spool", call.Spool, "--lookahead", "0", "--codec", call.Codec}
	if call.Level != 0 {
		args = append(args, "--level", strconv.Itoa(call.Level))
	}
	if call.RecipientsFile != "" {
		args = append(args, "--recipients-file", call.RecipientsFile)
	}
	if call.File != "" {
		args = append(args, "--config", call.File)
	}
	return s.Command(program, args...), nil
}

// unlock reads the private keys for a command that reads what is encrypted. Where they have a passphrase that no file holds, a
// person is asked for it.
func (call *invocation) unlock() error {
	switch {
	case call.IdentityFile == "" && call.IdentityPassphraseFile != "":
		return usage(errors.New("identity-passphrase-file is given without identity-file"))
	case call.IdentityFile == "" || call.keys != nil:
		return nil
	}
	var ask func() (string, error)
	if in := int(os.Stdin.Fd()); !call.unattended && term.IsTerminal(in) && term.IsTerminal(int(os.Stderr.Fd())) {
		ask = func() (string, error) {
			fmt.Fprintf(os.Stderr, "passphrase of %s: ", call.IdentityFile)
			word, err := term.ReadPassword(in)
			fmt.Fprintln(os.Stderr)
			return string(word), err
		}
	}
	keys := sealed.NewIdentities(call.IdentityFile, call.IdentityPassphraseFile, ask)
	if err := keys.Load(); err != nil {
		return err
	}
	call.keys = keys
	return nil
}

// recipients returns those for whom backups are encrypted; nil: they are not.
func (call *invocation) recipients() (*sealed.Recipients, error) {
	if call.RecipientsFile == "" {
		return nil, nil
	}
	return sealed.ReadRecipients(call.RecipientsFile)
}

// jobs returns the number of cores to use.
func (call *invocation) jobs() int {
	if call.Jobs > 0 {
		return call.Jobs
	}
	return runtime.GOMAXPROCS(0)
}
