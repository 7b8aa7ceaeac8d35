package walkeep_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// rule is a line of the table in doc.go.
type rule struct{ own, foreign []string }

func readRules(t *testing.T) map[string]rule {
	t.Helper()
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	rules := make(map[string]rule)
	for lines := bufio.NewScanner(bytes.NewReader(doc)); lines.Scan(); {
		line, ok := strings.CutPrefix(lines.Text(), "//\t")
		if !ok {
			continue
		}
		own, foreign, _ := strings.Cut(line, "|")
		fields := strings.Fields(own)
		rules[fields[0]] = rule{fields[1:], strings.Fields(foreign)}
	}
	if len(rules) < 10 {
		t.Fatalf("the table in doc.go has %d lines", len(rules))
	}
	return rules
}

type goPackage struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string
}

func listPackages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// foreignName shortens a module's path as the table does: github.com/zeebo/xxh3 to zeebo/xxh3, golang.org/x/sys/unix
// to x/sys.
func foreignName(importPath string) string {
	parts := strings.Split(importPath, "/")
	if parts[0] == "filippo.io" && len(parts) == 2 {
		return importPath
	}
	if len(parts) < 3 || !strings.Contains(parts[0], ".") {
		return ""
	}
	return path.Join(parts[1], parts[2])
}

func TestImports(t *testing.T) {
	rules := readRules(t)
	seen := make(map[string]bool)
	for _, p := range listPackages(t) {
		name, ok := strings.CutPrefix(p.ImportPath, "walkeep/")
		if !ok {
			continue // the module's root
		}
		seen[name] = true
		r, ok := rules[name]
		if !ok {
			t.Errorf("%s is not in the table in doc.go", name)
			continue
		}
		if slices.Contains(r.own, "*") && len(r.foreign) == 0 {
			continue
		}
		for _, i := range p.Imports {
			if own, ok := strings.CutPrefix(i, "walkeep/"); ok {
				if !slices.Contains(r.own, "*") && !slices.Contains(r.own, strings.TrimPrefix(own, "common/")) {
					t.Errorf("%s may not import %s", name, own)
				}
			} else if f := foreignName(i); f != "" && !slices.Contains(r.foreign, f) {
				t.Errorf("%s may not import %s", name, i)
			}
		}
	}
	for name := range rules {
		if !seen[name] {
			t.Errorf("the table in doc.go has %s, which does not exist", name)
		}
	}
}

func TestCommandsStaySmall(t *testing.T) {
	checked := 0
	for _, p := range listPackages(t) {
		if p.ImportPath != "walkeep/archive-cmd" && p.ImportPath != "walkeep/restore-cmd" {
			continue
		}
		checked++
		for _, d := range p.Deps {
			for _, heavy := range []string{"pgx", "kardianos", "minio", "pkg/sftp", "walkeep/supervisor", "net/http", "crypto/tls", "archive/tar", "os/user"} {
				if strings.Contains(d, heavy) || d == "net" {
					t.Errorf("%s reaches %s", p.ImportPath, d)
				}
			}
		}
	}
	if checked != 2 {
		t.Errorf("checked %d commands, want 2", checked)
	}
}
