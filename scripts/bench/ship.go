//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/s3"
)

// A shipSample is what one round of shipping showed.
type shipSample struct {
	took   time.Duration // of supervisor ship
	plain  time.Duration // of the upload of the same objects, one after the other, by the same client
	stored int64         // bytes of these
	cpu    time.Duration // of supervisor
	store  time.Duration // CPU time of the S3 server meanwhile
	peak   int64         // bytes of memory of supervisor
}

// shipping ships the backlog.
type shipping struct {
	place   *place
	walkeep *walkeep
	backlog *backlog
	gateway string // program of the S3 server

	samples []shipSample
}

// prepareShipping finds or builds what shipping needs.
func prepareShipping(ctx context.Context, w *walkeep, b *backlog) (*shipping, error) {
	if err := w.find(ctx); err != nil {
		return nil, err
	}
	gateway, err := findGateway(ctx)
	if err != nil {
		return nil, err
	}
	return &shipping{place: w.place, walkeep: w, backlog: b, gateway: gateway}, nil
}

// findGateway finds the program of the S3 server, or builds it.
func findGateway(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "scripts/fetch-versitygw", "--path").Output()
	if err != nil {
		return "", fmt.Errorf("build the S3 server: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// Credentials of the S3 server, which only this host reaches.
const benchKey, benchSecret = "bench", "bench-secret"

const benchBucket = "bench"

// run archives the backlog into a spool, and ships it to an S3 server on this host.
func (s *shipping) run(ctx context.Context, round int) (err error) {
	dir := filepath.Join(s.place.runs, "ship")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	spool, store := filepath.Join(dir, "spool"), filepath.Join(dir, "store")
	if err := errors.Join(os.Mkdir(spool, 0o700), os.MkdirAll(filepath.Join(store, benchBucket), 0o700)); err != nil {
		return err
	}
	for _, name := range s.backlog.segments {
		if err := quiet(exec.CommandContext(ctx, filepath.Join(s.walkeep.bindir, "archive-cmd"), "-c", os.DevNull, "--spool", spool, "--lookahead", "0", s.backlog.segmentFile(name))); err != nil {
			return err
		}
	}
	endpoint, server, err := serveS3(ctx, s.gateway, store)
	if err != nil {
		return err
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	keys, file := filepath.Join(dir, "keys"), filepath.Join(dir, "walkeep.ini")
	ini := fmt.Sprintf("spool = %s\n[repository s3]\nurl = s3://%s/shipped\nendpoint = %s\ncredentials = file\ncredentials-file = %s\nregion = us-east-1\n", spool, benchBucket, endpoint, keys)
	if err := errors.Join(os.WriteFile(keys, []byte("access-key = "+benchKey+"\nsecret-key = "+benchSecret+"\n"), 0o600), os.WriteFile(file, []byte(ini), 0o600)); err != nil {
		return err
	}
	var sample shipSample
	objects, err := filepath.Glob(filepath.Join(spool, "wal", "*", "*"))
	if err != nil {
		return err
	}
	for _, o := range objects { // they are in the page cache afterwards
		content, err := os.ReadFile(o)
		if err != nil {
			return err
		}
		sample.stored += int64(len(content))
	}
	upload := func() error {
		began := time.Now()
		err := uploadAll(ctx, s3.Options{Endpoint: endpoint, Bucket: benchBucket, Prefix: "plain", Credentials: "file", CredentialsFile: keys, Region: "us-east-1"}, objects)
		sample.plain = time.Since(began)
		return err
	}
	ship := func() error {
		cmd := exec.CommandContext(ctx, filepath.Join(s.walkeep.bindir, "supervisor"), "-c", file, "--quiet", "ship")
		before, began := cpuOfTree(server.Process.Pid), time.Now()
		if err := quiet(cmd); err != nil {
			return err
		}
		sample.took, sample.store = time.Since(began), cpuOfTree(server.Process.Pid)-before
		sample.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
		sample.peak = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
		return nil
	}
	steps := []func() error{upload, ship}
	if round%2 == 1 {
		steps = []func() error{ship, upload}
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	s.samples = append(s.samples, sample)
	progress("round %d  ship     %.0f MB/s of WAL, %.2f x the time of a plain upload", round+1, s.rate(sample), sample.took.Seconds()/sample.plain.Seconds())
	return s.backlog.checkUnchanged()
}

// rate is in MB of plain WAL per second.
func (s *shipping) rate(of shipSample) float64 {
	return float64(s.backlog.plainSize()) / 1e6 / of.took.Seconds()
}

// quiet runs a command, of which only an error is of interest.
func quiet(cmd *exec.Cmd) error {
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", filepath.Base(cmd.Path), err, tail(said.String()))
	}
	return nil
}

// serveS3 starts an S3 server on a directory.
func serveS3(ctx context.Context, gateway, store string) (endpoint string, server *exec.Cmd, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	address := l.Addr().String()
	l.Close()
	server = exec.CommandContext(ctx, gateway, "--port", address, "--quiet", "posix", store)
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+benchKey, "ROOT_SECRET_KEY="+benchSecret)
	if err := server.Start(); err != nil {
		return "", nil, err
	}
	for range 100 {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err == nil {
			c.Close()
			return "http://" + address, server, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	server.Process.Kill()
	server.Wait()
	return "", nil, errors.New("the S3 server does not answer")
}

// uploadAll uploads files, one after the other.
func uploadAll(ctx context.Context, o s3.Options, files []string) error {
	b, err := s3.Open(ctx, o)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := storage.PutAll(ctx, b, "wal/"+filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file), content); err != nil {
			return err
		}
	}
	return nil
}

// write reports on shipping.
func (s *shipping) write(w io.Writer) {
	column := func(figure func(shipSample) float64) []float64 {
		var values []float64
		for _, one := range s.samples {
			values = append(values, figure(one))
		}
		return values
	}
	gb := float64(s.backlog.plainSize()) / 1e9
	fmt.Fprint(w, "\n### Shipping the backlog to an S3 server on the same machine\n\n"+
		"| | MB/s of plain WAL | segments/s | time : plain upload | CPU s/GB | of the S3 server | peak MB |\n|---|--:|--:|--:|--:|--:|--:|\n")
	fmt.Fprintf(w, "| `supervisor ship` | %s | %s | %s | %s | %s | %s |\n",
		spread(column(s.rate), "%.0f"),
		spread(column(func(one shipSample) float64 { return float64(len(s.backlog.segments)) / one.took.Seconds() }), "%.1f"),
		spread(column(func(one shipSample) float64 { return one.took.Seconds() / one.plain.Seconds() }), "%.2f"),
		spread(column(func(one shipSample) float64 { return one.cpu.Seconds() / gb }), "%.2f"),
		spread(column(func(one shipSample) float64 { return one.store.Seconds() / gb }), "%.2f"),
		spread(column(func(one shipSample) float64 { return float64(one.peak) / 1e6 }), "%.0f"))
}
