//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"walkeep/common/storage/s3"
	"walkeep/common/storage/s3/s3test"
)

// Credentials of the S3 server, which only this host reaches, and its bucket.
const (
	benchKey, benchSecret = "bench", "bench-secret"
	benchBucket           = "bench"
)

// An s3Server is an S3 server of this host, with TLS, without which pgBackRest does not work.
type s3Server struct {
	place   *place
	gateway string // its program
	cmd     *exec.Cmd
	address string
	keys    string // file of the credentials
	ca      string // file of its certificate
}

// find finds the program, or builds it.
func (s *s3Server) find(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, "scripts/fetch-versitygw", "--path").Output()
	if err != nil {
		return fmt.Errorf("build the S3 server: %w", err)
	}
	s.gateway = strings.TrimSpace(string(out))
	return nil
}

// start starts the server on the directory store/bench, which is the bucket. The directory aux gets files of its own.
func (s *s3Server) start(ctx context.Context, store, aux string) error {
	s.end()
	if s.gateway == "" {
		if err := s.find(ctx); err != nil {
			return err
		}
	}
	certs := filepath.Join(aux, "certs")
	s.keys, s.ca = filepath.Join(aux, "keys"), filepath.Join(certs, "public.crt")
	err := errors.Join(
		s.place.mkdir(filepath.Join(store, benchBucket)), s.place.mkdir(certs), s3test.Certificate(certs),
		s.place.writeFile(s.keys, "access-key = "+benchKey+"\nsecret-key = "+benchSecret+"\n"))
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.address = l.Addr().String()
	l.Close()
	s.cmd = exec.CommandContext(ctx, s.gateway, "--port", s.address, "--quiet", "--keep-alive", "--cert", s.ca, "--key", filepath.Join(certs, "private.key"), "posix", store)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+benchKey, "ROOT_SECRET_KEY="+benchSecret)
	if err := s.cmd.Start(); err != nil {
		return err
	}
	for range 100 {
		c, err := net.DialTimeout("tcp", s.address, time.Second)
		if err == nil {
			return c.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.end()
	return errors.New("the S3 server does not answer")
}

// end ends the server, if it runs.
func (s *s3Server) end() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
	}
	s.cmd = nil
}

// section is that of a repository in walkeep's configuration.
func (s *s3Server) section(prefix string) string {
	return fmt.Sprintf("[repository s3]\nurl = s3://%s/%s\nendpoint = https://%s\nca-file = %s\ncredentials = file\ncredentials-file = %s\nregion = us-east-1\n",
		benchBucket, prefix, s.address, s.ca, s.keys)
}

// options are the same for this program itself.
func (s *s3Server) options(prefix string) s3.Options {
	return s3.Options{Endpoint: "https://" + s.address, CAFile: s.ca, Bucket: benchBucket, Prefix: prefix, Credentials: "file", CredentialsFile: s.keys, Region: "us-east-1"}
}
