//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
)

// A launch is a job in progress, below a launcher.
type launch struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	done  chan struct{} // closed when all of the job's processes have ended
	usage usage         // valid then
	err   error
}

// launch starts commands as the servers' account; what they print goes to the file log.
func (p *place) launch(log, dir string, repeat int, commands ...[]string) (*launch, error) {
	line, err := json.Marshal(job{
		Commands: commands, Repeat: repeat, Dir: dir, Env: p.environment(),
		Switch: p.root, UID: uint32(p.uid), GID: uint32(p.gid),
	})
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer writer.Close()
	cmd := exec.Command(self, reapArgument)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.ExtraFiles = []*os.File{writer}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, errors.Join(err, reader.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start launcher: %w", err), reader.Close())
	}
	l := &launch{cmd: cmd, stdin: stdin, done: make(chan struct{})}
	go l.wait(reader)
	if _, err := stdin.Write(append(line, '\n')); err != nil {
		l.end()
		return nil, fmt.Errorf("hand job to launcher: %w", err)
	}
	return l, nil
}

func (l *launch) wait(reader *os.File) {
	defer close(l.done)
	defer reader.Close()
	decodeErr := json.NewDecoder(reader).Decode(&l.usage)
	waitErr := l.cmd.Wait()
	switch {
	case decodeErr != nil || waitErr != nil:
		l.err = errors.Join(decodeErr, waitErr)
	case l.usage.Err != "":
		l.err = errors.New(l.usage.Err)
	case l.usage.Killed > 0:
		l.err = fmt.Errorf("%d processes did not end and were killed", l.usage.Killed)
	}
}

// ask sends a request to stop, stopFast or stopImmediate.
func (l *launch) ask(request string) {
	_, _ = io.WriteString(l.stdin, request)
}

// end ends what still runs, if anything, and waits until it has ended.
func (l *launch) end() {
	_ = l.stdin.Close()
	<-l.done
}

// call runs commands by hand to their end, repeatedly if told so, and fails if one of them fails.
func (p *place) call(ctx context.Context, log, dir string, repeat int, commands ...[]string) (usage, error) {
	l, err := p.launch(log, dir, repeat, commands...)
	if err != nil {
		return usage{}, err
	}
	defer l.end()
	select {
	case <-ctx.Done():
		return usage{}, ctx.Err()
	case <-l.done:
	}
	if l.err == nil && l.usage.Exit != 0 {
		return l.usage, fmt.Errorf("call by hand: exit status %d", l.usage.Exit)
	}
	return l.usage, l.err
}

// shell is how PostgreSQL runs a command.
func shell(command string) []string { return []string{"/bin/sh", "-c", command} }
