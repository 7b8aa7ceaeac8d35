package walkeep_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
)

// A number of cores is a parameter of what uses it. To set it for the process would change it for everything that runs at the
// same time.
func TestCoresAreNotSet(t *testing.T) {
	asked := 0
	files := token.NewFileSet()
	err := filepath.WalkDir(".", func(file string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		calls := make(map[ast.Node]bool) // that only ask
		ast.Inspect(parsed, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok && len(call.Args) == 1 {
				if zero, ok := call.Args[0].(*ast.BasicLit); ok && zero.Value == "0" {
					calls[call.Fun] = true
				}
			}
			if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "GOMAXPROCS" {
				if asked++; !calls[s] {
					t.Errorf("%s sets the number of cores of the whole process", files.Position(s.Pos()))
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if asked == 0 {
		t.Error("nothing asks for the number of cores: is this the root of the sources?")
	}
}
