package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Each command that a finding or the page suggests is one that this program has, with options that it has.
func TestSuggestedCommands(t *testing.T) {
	files, err := filepath.Glob("report/*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, file := range append(files, "page/build.go") {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || call.Ellipsis.IsValid() {
				return true
			}
			called, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			words := call.Args
			switch called.Sel.Name {
			case "help":
				words = words[1:]
			case "Call":
			default:
				return true
			}
			if len(words) == 0 {
				return true
			}
			args := []string{"--spool", t.TempDir()}
			for _, w := range words {
				word := "2026-11-28 12:00:00+00:00" // what is known later: a name or a time
				if l, ok := w.(*ast.BasicLit); ok {
					word, _ = strconv.Unquote(l.Value)
				}
				args = append(args, word)
			}
			seen++
			if args[len(args)-2] == "--repo" {
				args = args[:len(args)-2] // the configuration of this test has no repository
			}
			if _, _, err := program(commands()).ParseCommand(args, io.Discard); err != nil {
				t.Errorf("%s: %q: %v", file, args[2:], err)
			}
			return true
		})
	}
	if seen < 25 {
		t.Errorf("only %d commands were found", seen)
	}
}
