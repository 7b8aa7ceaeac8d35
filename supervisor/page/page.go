// Package page makes a page of HTML from a report: first what is wrong, then what can be recovered, drawn to scale over time, then
// backups, drills, the server, repositories and leases. The page needs no script, no font and no other file, and shows everything
// that it draws in tables too.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"time"

	"walkeep/supervisor/report"
)

// A State is what a page shows.
type State struct {
	Report   *report.Report // nil if there was none yet
	Findings []report.Finding
	// Looked is when the archive was read the last time, and Error why that failed; then Report is an earlier one. The zero time: it
	// was not read yet.
	Looked time.Time
	Error  string
	// Late is the age from which on a state needs a warning, because newer ones should exist; 0: never.
	Late time.Duration

	Version string // of the program
}

//go:embed page.html
var source string

//go:embed style.css
var style string

var tmpl = template.Must(template.New("page").Parse(source))

// Policy is the Content-Security-Policy of the page: it loads nothing, runs nothing, and has this one style.
var Policy = "default-src 'none'; style-src '" + hashOf(style) + "'; img-src data:; base-uri 'none'; form-action 'none'"

func hashOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Write writes the page of a state as it is at the time now. It may be called concurrently.
func Write(w io.Writer, s State, now time.Time) error {
	var page bytes.Buffer
	if err := tmpl.Execute(&page, build(s, now)); err != nil {
		return err
	}
	_, err := page.WriteTo(w)
	return err
}

// A view is what the template prints.
type view struct {
	Title, Version           string
	State, Mark              string // the worst finding's: OK, WARNING, CRITICAL or UNKNOWN, and its class
	Icon                     template.URL
	Cluster, Looked, LookAge string
	Policy                   string
	Style                    template.CSS
	Findings                 []finding
	Facts                    []fact
	Commands                 []command
	Drawings                 []drawing
	Sections                 []section
}

// A finding is something that is wrong.
type finding struct {
	State, Class, Text, Since, Help, Command string
}

// A fact is an answer in large letters.
type fact struct{ Name, Value, More, Class string }

// A command is what can be typed, and why.
type command struct{ What, Line string }

// A section is a heading with tables.
type section struct {
	ID, Title, Lead string
	Tables          []table
	Notes           []string
}

// A table has rows that are folded, the oldest ones, under the text Fold.
type table struct {
	Caption string
	Heads   []string
	Rows    [][]cell
	Fold    string
	Folded  [][]cell
	Omitted string // what is not in the table
}

// Cells returns the rows' cells with the heads, which narrow screens show beside them.
func (t table) With(rows [][]cell) []row {
	all := make([]row, len(rows))
	for i, r := range rows {
		all[i] = row{t.Heads, r}
	}
	return all
}

type row struct {
	heads []string
	cells []cell
}

// First returns the cell that names the row.
func (r row) First() cell { return r.cells[0] }

// Others returns the other cells that say something, with their heads.
func (r row) Others() []labelled {
	all := make([]labelled, 0, len(r.cells))
	for i, c := range r.cells[1:] {
		all = append(all, labelled{r.heads[i+1], c})
	}
	return all
}

type labelled struct {
	Head string
	cell
}

// A cell has a text, a second line in small letters, and a class.
type cell struct{ Text, More, Class string }

// Classes of what is good, late and bad.
const (
	good = "good"
	warn = "warn"
	bad  = "bad"
	mute = "mute"
)

func class(s report.State) string {
	return [...]string{good, warn, bad, warn}[s]
}

// rowsShown is how many of the newest rows of a table are shown, and rowsFolded how many more are there to unfold.
const rowsShown, rowsFolded = 8, 500

// newTable makes a table of rows, the newest first. noun names what the rows are, in the plural.
func newTable(caption, noun string, heads []string, rows [][]cell) table {
	t := table{Caption: caption, Heads: heads, Rows: rows}
	if len(rows) > rowsShown+3 {
		t.Rows, t.Folded = rows[:rowsShown], rows[rowsShown:]
		if n := len(t.Folded) - rowsFolded; n > 0 {
			t.Folded = t.Folded[:rowsFolded]
			t.Omitted = count(n, "more row") + " are older; the command list has all"
		}
		t.Fold = "Show " + number(len(t.Folded)) + " more " + noun
	}
	return t
}
