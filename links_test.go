package walkeep_test

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// TestLinks follows each relative link of the documentation to a file, or a directory, and to a heading of it.
func TestLinks(t *testing.T) {
	pages := []string{"README.md", "CONTRIBUTING.md"}
	err := filepath.WalkDir("docs", func(name string, _ fs.DirEntry, err error) error {
		if path.Ext(name) == ".md" {
			pages = append(pages, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, page := range pages {
		found, broken := checkLinks(t, os.DirFS("."), page)
		links += found
		for _, b := range broken {
			t.Error(b)
		}
	}
	if len(pages) < 10 || links < 20 {
		t.Errorf("%d pages with %d links were found", len(pages), links)
	}
}

// TestBrokenLinks holds that checkLinks finds what is broken.
func TestBrokenLinks(t *testing.T) {
	page := "# A page\n[a](b.md) [b](b.md#some-words-here) [c](sub) [d](#a-page) [e](https://example.com/x) [f](b.md#twice-1)\n" +
		"[g](gone.md)\n[h](b.md#gone) [i](#gone)\n[j](b.md#code) [k](b.md#twice-2) [l](../b.md)\n```\n[m](code)\n```\n"
	tree := fstest.MapFS{
		"docs/a.md": {Data: []byte(page)}, "docs/sub/x": {},
		"docs/b.md": {Data: []byte("# Some `words`, here\n## Twice\n## Twice\n```\n# code\n```\n")},
	}
	links, broken := checkLinks(t, tree, "docs/a.md")
	var got []string
	for _, b := range broken {
		got = append(got, strings.Fields(b)[1])
	}
	want := []string{"gone.md", "b.md#gone", "#gone", "b.md#code", "b.md#twice-2", "../b.md"}
	if links != 11 || !slices.Equal(got, want) {
		t.Errorf("got %d links, broken %q, want 11, %q", links, got, want)
	}
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.*)$`)
	fenced  = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	dropped = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// checkLinks counts the relative links of a page, and describes those that lead nowhere.
func checkLinks(t *testing.T, tree fs.FS, page string) (links int, broken []string) {
	t.Helper()
	for _, match := range link.FindAllStringSubmatch(readPage(t, tree, page), -1) {
		if strings.Contains(match[1], ":") {
			continue // of another site
		}
		links++
		file, anchor, _ := strings.Cut(match[1], "#")
		to := page
		if file != "" {
			to = path.Join(path.Dir(page), file)
		}
		if _, err := fs.Stat(tree, to); err != nil {
			broken = append(broken, fmt.Sprintf("%s: %s leads to no file", page, match[1]))
		} else if anchor != "" && !slices.Contains(anchors(readPage(t, tree, to)), anchor) {
			broken = append(broken, fmt.Sprintf("%s: %s leads to no heading of %s", page, match[1], to))
		}
	}
	return links, broken
}

// readPage returns the text of a page without its examples.
func readPage(t *testing.T, tree fs.FS, page string) string {
	t.Helper()
	text, err := fs.ReadFile(tree, page)
	if err != nil {
		t.Fatal(err)
	}
	return fenced.ReplaceAllString(string(text), "")
}

// anchors returns the names that GitHub gives the headings of a page.
func anchors(text string) (names []string) {
	times := make(map[string]int)
	for _, match := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(dropped.ReplaceAllString(strings.ToLower(match[1]), ""), " ", "-")
		n := times[name]
		times[name]++
		if n > 0 {
			name = fmt.Sprintf("%s-%d", name, n)
		}
		names = append(names, name)
	}
	return names
}
