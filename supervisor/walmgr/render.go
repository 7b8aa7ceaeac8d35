package walmgr

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"walkeep/common/cli"
)

// render writes the result: first the keys, then the parameters that did not become keys.
func (im *importer) render() []byte {
	var b bytes.Buffer
	role := "the standby's"
	if im.Primary {
		role = "the primary's"
	}
	comment(&b, fmt.Sprintf("walkeep's configuration for %s host, made by `supervisor import-walmgr` from %s, section [%s]. docs/from-walmgr.md lists what replaces walmgr's commands, parameters, files and habits.",
		role, im.o.File, im.main))
	comment(&b, "Lines without # are walkeep's.")
	heading(&b, "kept as keys of walkeep")
	for _, k := range im.keys {
		b.WriteByte('\n')
		for _, it := range k.from {
			im.was(&b, it)
		}
		comment(&b, k.note)
		fmt.Fprintf(&b, "%s = %s\n", k.name, quote(k.value))
	}
	if len(im.keys) == 0 {
		comment(&b, "Nothing.")
	}
	im.list(&b, "done in another way by walkeep", func(it *item) bool { return it.ours && isKnown(it) })
	im.list(&b, "unknown to walkeep", func(it *item) bool { return it.ours && !isKnown(it) })
	im.list(&b, "not walmgr's", func(it *item) bool { return !it.ours })
	return b.Bytes()
}

func isKnown(it *item) bool {
	_, _, ok := noteOf(it.name)
	return ok
}

// list writes the parameters for which include is true and that are not printed above a key.
func (im *importer) list(b *bytes.Buffer, title string, include func(*item) bool) {
	for _, it := range im.items {
		if it.told || !include(it) {
			continue
		}
		if title != "" {
			heading(b, title)
			title = ""
		}
		b.WriteByte('\n')
		im.was(b, it)
		comment(b, im.instead(it))
	}
}

// instead describes what replaces a parameter.
func (im *importer) instead(it *item) string {
	note, of, ok := noteOf(it.name)
	why := im.why[it]
	switch {
	case !it.ours:
		return "It is in a section that walmgr does not read, and walkeep does not know this parameter."
	case !ok:
		return "walkeep does not know this parameter. walmgr did not use it, either, unless another parameter referred to it."
	case im.countsElsewhere(it):
		return "The one above is used."
	case it.err == nil && trim(it.value) == "":
		return "It is empty, so there is nothing to do."
	case it.err != nil:
		return "It could not be read: " + it.err.Error() + ". " + note
	case why != "":
		return "It is not taken over: " + why + "."
	case of == slave && im.Primary:
		return "It is the standby's. " + note
	case of == master && !im.Primary:
		return "It is the primary's. " + note
	}
	return note
}

// countsElsewhere reports whether a parameter of that name in another section became a key.
func (im *importer) countsElsewhere(it *item) bool {
	return slices.ContainsFunc(im.items, func(other *item) bool { return other != it && other.name == it.name && other.told })
}

// was writes a parameter as walmgr's file has it.
func (im *importer) was(b *bytes.Buffer, it *item) {
	where := ""
	if it.section != im.main {
		where = "[" + visible(it.section) + "] "
	}
	lines := strings.Split(it.shown, "\n")
	for i := range lines {
		lines[i] = visible(lines[i])
	}
	value := strings.Join(lines, "\n#"+strings.Repeat(" ", 8))
	fmt.Fprintf(b, "# walmgr: %s%s\n", where, strings.TrimRight(visible(it.name)+" = "+value, " "))
	for _, line := range it.dropped {
		comment(b, fmt.Sprintf("(It is in line %d as well, but the last one is used, that of line %d.)", line, it.line))
	}
}

func heading(b *bytes.Buffer, title string) {
	fmt.Fprintf(b, "\n# ---- %s %s\n", title, strings.Repeat("-", 60-len(title)))
}

// comment writes a text as comment lines of at most 100 characters.
func comment(b *bytes.Buffer, text string) {
	const width = 100
	line := "#"
	for _, word := range strings.Fields(visible(strings.ReplaceAll(text, "`supervisor ", "`"+cli.Called()+" "))) {
		if len(line)+1+len(word) > width && line != "#" {
			b.WriteString(line + "\n")
			line = "#"
		}
		line += " " + word
	}
	b.WriteString(line + "\n")
}

// visible replaces characters that could end a comment or a message.
func visible(text string) string {
	return strings.Map(func(r rune) rune {
		if isControl(r) || r == utf8.RuneError || !unicode.IsPrint(r) && !unicode.IsSpace(r) || r == 0x85 || r == 0x2028 || r == 0x2029 {
			return '?'
		}
		return r
	}, text)
}

// quote writes a value so that walkeep reads it unchanged.
func quote(value string) string {
	if strings.TrimSpace(value) != value || strings.HasPrefix(value, `"`) {
		return strconv.Quote(value)
	}
	return value
}
