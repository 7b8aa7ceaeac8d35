package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"walkeep/common/cmdtest"
	"walkeep/supervisor/retain"
)

// fits fails the test where a command has printed JSON that docs/schema/NAME.json does not allow, or a key that it does not know.
func fits(t testing.TB, name string, printed []byte) {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	files, err := filepath.Glob(filepath.Join("..", "docs", "schema", "*.json")) // some name others
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		schema, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		close := func(s map[string]any) { s["additionalProperties"] = false }
		eachObject(schema, close) // for users, later versions may add keys; a key that is added must be in the schema
		if err := c.AddResource("file:///"+filepath.Base(file), schema); err != nil {
			t.Fatal(err)
		}
	}
	compiled, err := c.Compile("file:///" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(printed))
	if err == nil {
		err = compiled.Validate(value)
	}
	if err != nil {
		t.Errorf("%v\n%s", err, printed)
	}
}

// eachObject visits the schemas of objects within a schema.
func eachObject(s any, visit func(map[string]any)) {
	switch s := s.(type) {
	case map[string]any:
		if s["properties"] != nil && s["type"] == "object" {
			visit(s)
		}
		for _, inner := range s {
			eachObject(inner, visit)
		}
	case []any:
		for _, inner := range s {
			eachObject(inner, visit)
		}
	}
}

// TestSchemas holds what the commands print as JSON against the schemas in docs/schema. What a server says is in the golden
// files of package report; a drill needs one, so its test has its schema.
func TestSchemas(t *testing.T) {
	golden, err := filepath.Glob("report/testdata/report*.json.golden")
	if err != nil || len(golden) != 3 {
		t.Fatalf("golden files: %v, %v", golden, err)
	}
	for _, file := range golden {
		printed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fits(t, "report", printed)
	}
	spool := filepath.Join(t.TempDir(), "spool")
	if err := os.CopyFS(spool, os.DirFS("../testdata/site")); err != nil {
		t.Fatal(err)
	}
	call := func(code int, name string, args ...string) {
		t.Helper()
		cmd := cmdtest.Command("supervisor", append([]string{"--spool", spool, "--quiet"}, args...)...)
		out, err := cmd.Output()
		if got := cmd.ProcessState.ExitCode(); got != code {
			t.Fatalf("%q: got exit code %d, want %d: %v", args, got, code, err)
		}
		fits(t, name, out)
	}
	call(0, "report", "list", "--json")
	call(0, "report", "status", "--json")
	call(1, "verify", "verify", "--json")
	call(1, "verify", "verify", "--deep", "--json")
	call(0, "cleanup", "cleanup", "--json", "--dry-run", "--keep-backups", "1")
	call(0, "cleanup", "cleanup", "--json", "--keep-backups", "1")
	repository := cmdtest.FileURL(filepath.Join(filepath.Dir(spool), "repository"))
	if err := os.CopyFS(filepath.Join(filepath.Dir(spool), "repository"), os.DirFS("../testdata/site")); err != nil {
		t.Fatal(err)
	}
	call(0, "cleanup", "cleanup", "--json", "--keep-backups", "1", "--repo-url", repository)
	call(0, "report", "list", "--json", "--repo-url", repository)
	call(0, "undelete", "cleanup", "--json", "--undelete", "--dry-run", "--repo-url", repository)
	file := filepath.Join(t.TempDir(), "walkeep.ini")
	if err := os.WriteFile(file, []byte("[repository far]\nurl = "+repository+"\nkeep-backups = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	call(0, "cleanup-places", "cleanup", "--json", "--dry-run", "--config", file)
	call(0, "undelete", "cleanup", "--json", "--undelete", "--config", file)
	dropped, err := json.Marshal(retain.Dropped{DryRun: true, Timeline: 4, HistoryStays: 5, Next: 3})
	if err != nil {
		t.Fatal(err)
	}
	fits(t, "drop-timeline", dropped)
}

// TestSchemaRefuses holds that a schema notices a key too many, one that is missing, and a value of another kind.
func TestSchemaRefuses(t *testing.T) {
	right := map[string]any{"deep": true, "objects": 1, "bytes": 2, "seconds": 0.5, "problems": []any{}}
	for name, spoil := range map[string]func(map[string]any){
		"too many": func(m map[string]any) { m["more"] = 1 },
		"missing":  func(m map[string]any) { delete(m, "bytes") },
		"kind":     func(m map[string]any) { m["deep"] = "yes" },
		"null":     func(m map[string]any) { m["problems"] = nil },
	} {
		wrong := make(map[string]any)
		for k, v := range right {
			wrong[k] = v
		}
		spoil(wrong)
		printed, _ := json.Marshal(wrong)
		w := &complaints{TB: t}
		if fits(w, "verify", printed); w.count != 1 {
			t.Errorf("%s: %s is accepted", name, printed)
		}
	}
	printed, _ := json.Marshal(right)
	fits(t, "verify", printed)
}

// complaints counts what a check complains about.
type complaints struct {
	testing.TB
	count int
}

func (c *complaints) Helper()               {}
func (c *complaints) Errorf(string, ...any) { c.count++ }
