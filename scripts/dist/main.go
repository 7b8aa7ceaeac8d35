// Dist makes what people install: archives for each system, a Debian and an RPM package, a list of the parts (SBOM) of each
// system's programs, and SHA256SUMS of all of it. Two runs on one commit give the same bytes.
//
// It is a module of its own, because nothing of walkeep itself needs the libraries that write packages.
package main

import (
	"bytes"
	"crypto/sha256"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var programs = []string{"archive-cmd", "restore-cmd", "supervisor"}

// A release is what is made, from one commit.
type release struct {
	root    string // of the repository
	out     string // directory of the results
	work    string // directory of what is made on the way
	version string
	number  string    // of the packages of this version
	made    time.Time // of the commit: the time of every file
}

// A system is one for which programs are built.
type system struct{ os, arch string }

func (s system) String() string { return s.os + "-" + s.arch }

// exe is the ending of programs' names.
func (s system) exe() string {
	if s.os == "windows" {
		return ".exe"
	}
	return ""
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("dist: ")
	root := flag.String("root", ".", "the repository")
	out := flag.String("out", "dist", "directory of the results, which is made anew")
	systems := flag.String("systems", "linux/amd64,linux/arm64,windows/amd64,darwin/arm64", "what to build for; linux/amd64 is always among it")
	number := flag.String("package-release", "1", "which of the packages of this version they are")
	flag.Parse()
	if err := run(*root, *out, *systems, *number); err != nil {
		log.Fatal(err)
	}
}

func run(root, out, systems, number string) (err error) {
	r := release{number: number}
	if r.root, err = filepath.Abs(root); err != nil {
		return err
	}
	if r.out, err = filepath.Abs(out); err != nil {
		return err
	}
	if err := r.describe(); err != nil {
		return err
	}
	if err := os.RemoveAll(r.out); err != nil {
		return err
	}
	if err := os.MkdirAll(r.out, 0o755); err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("", "walkeep-dist-"); err != nil {
		return err
	}
	defer os.RemoveAll(r.work)

	all := []system{{"linux", "amd64"}}
	for _, name := range strings.Split(systems, ",") {
		goos, arch, ok := strings.Cut(name, "/")
		if !ok {
			return fmt.Errorf("--systems: %q is not such as linux/amd64", name)
		}
		if s := (system{goos, arch}); !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	for _, s := range all {
		if err := r.build(s); err != nil {
			return err
		}
	}
	if err := r.document(); err != nil {
		return err
	}
	for _, s := range all {
		if err := r.archive(s); err != nil {
			return fmt.Errorf("archive for %s: %w", s, err)
		}
		if err := r.listParts(s); err != nil {
			return fmt.Errorf("list the parts for %s: %w", s, err)
		}
		if s.os == "linux" {
			if err := r.pack(s); err != nil {
				return fmt.Errorf("package for %s: %w", s, err)
			}
		}
	}
	return r.sum()
}

// describe reads version and commit time.
func (r *release) describe() error {
	source, err := os.ReadFile(filepath.Join(r.root, "common", "cli", "cli.go"))
	if err != nil {
		return err
	}
	_, rest, ok := strings.Cut(string(source), `const Version = "`)
	if r.version, _, _ = strings.Cut(rest, `"`); !ok || r.version == "" {
		return fmt.Errorf("common/cli/cli.go has no version")
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		out, err := exec.Command("git", "-C", r.root, "log", "-1", "--format=%ct").Output()
		if err != nil {
			return fmt.Errorf("read the commit's time: %w; set SOURCE_DATE_EPOCH where there is no git", err)
		}
		epoch = strings.TrimSpace(string(out))
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	r.made = time.Unix(seconds, 0).UTC()
	return err
}

// bin is the directory of a system's programs.
func (r *release) bin(s system) string { return filepath.Join(r.work, "bin", s.String()) }

// build builds a system's programs as make build does, without what differs from one checkout to the other.
func (r *release) build(s system) error {
	log.Printf("build for %s", s)
	args := []string{"build", "-trimpath", "-buildvcs=false", "-tags", "forceposix", "-ldflags", "-s -w -buildid=", "-o", r.bin(s) + string(filepath.Separator)}
	for _, p := range programs {
		args = append(args, "./"+p)
	}
	if err := os.MkdirAll(r.bin(s), 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = r.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+s.os, "GOARCH="+s.arch, "GOFLAGS=")
	var failed bytes.Buffer
	cmd.Stderr = &failed
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %s: %w\n%s", s, err, &failed)
	}
	return nil
}

// sum writes SHA256SUMS, which sha256sum -c reads.
func (r *release) sum() error {
	entries, err := os.ReadDir(r.out)
	if err != nil {
		return err
	}
	var sums strings.Builder
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(r.out, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256(content), e.Name())
	}
	return os.WriteFile(filepath.Join(r.out, "SHA256SUMS"), []byte(sums.String()), 0o644)
}
