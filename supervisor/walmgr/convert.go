package walmgr

import (
	"errors"
	"fmt"
	"slices"
)

// ErrNotWalmgr reports a file that is not walmgr's.
var ErrNotWalmgr = errors.New("it has no section [walmgr], [wal-master] or [wal-slave]")

// Options are the facts that the file does not contain.
type Options struct {
	File string                   // the file's path, with slashes
	Host string                   // this host's name
	Home func(user string) string // a user's home directory; the caller's for ""; empty if there is no such user
}

// A Result is walkeep's configuration file.
type Result struct {
	Text     []byte
	Primary  bool // the file is for the primary's host
	Password bool // a password was left out
	Warnings []string
}

// An item is a parameter and what was done with it.
type item struct {
	*parameter
	section string
	ours    bool   // its section is one that walmgr reads
	value   string // after expansion
	err     error  // why the expansion failed
	shown   string // the value, or what replaces it if it may be a password
	told    bool   // it is printed above a key
}

// A key is a line of the result.
type key struct {
	name, value string
	from        []*item
	note        string
}

// An importer converts one file into another.
type importer struct {
	o       Options
	main    string // section
	items   []*item
	keys    []key
	secrets []string
	why     map[*item]string // why a parameter did not become a key
	Result
}

// Convert converts walmgr's configuration into walkeep's. It fails with [ErrNotWalmgr] if content has no section of
// walmgr. It may be called concurrently.
func Convert(content []byte, o Options) (Result, error) {
	sections, err := parse(content)
	if err != nil {
		return Result{}, err
	}
	im := &importer{o: o, why: make(map[*item]string)}
	main := im.choose(sections)
	if main == nil {
		return Result{}, ErrNotWalmgr
	}
	im.collect(sections, main)
	im.conceal()
	im.takeSpool()
	im.takeServer()
	im.takeStream()
	im.takeStandby()
	im.takeRetention()
	im.Text = im.render()
	return im.Result, nil
}

// sectionNames are in the order of their precedence: SkyTools 2.1 used a file with both sections as the primary's.
var sectionNames = []string{"walmgr", "wal-master", "wal-slave"}

// choose finds the section that walmgr used, and the side that it belongs to.
func (im *importer) choose(sections []*section) *section {
	for _, name := range sectionNames {
		s := find(sections, name)
		if s == nil {
			continue
		}
		im.main = name
		switch name {
		case "walmgr":
			im.Primary = s.find("master_data") != nil || find(sections, defaults).find("master_data") != nil
		case "wal-master":
			im.Primary = true
		}
		return s
	}
	return nil
}

// collect expands all parameters: first those of the main section, then those of the other sections.
func (im *importer) collect(sections []*section, main *section) {
	im.add(sections, main, main, true)
	if d := find(sections, defaults); d != nil {
		im.add(sections, d, main, true)
	}
	for _, name := range sectionNames {
		if s := find(sections, name); s != nil && s != main {
			im.add(sections, s, s, true)
		}
	}
	for _, s := range sections {
		if s != main && s.name != defaults && !slices.Contains(sectionNames, s.name) {
			im.add(sections, s, s, false)
		}
	}
}

func (im *importer) add(sections []*section, s, expandedIn *section, ours bool) {
	n := namesOf(sections, expandedIn, im.o)
	for _, p := range s.parameters {
		it := &item{parameter: p, section: s.name, ours: ours}
		it.value, it.err = n.expand(p.raw)
		im.items = append(im.items, it)
	}
}

// get returns the parameter of that name that has a value. The main section has precedence.
func (im *importer) get(name string) *item {
	for _, it := range im.items {
		if it.name == name && it.ours && it.err == nil && trim(it.value) != "" {
			return it
		}
	}
	return nil
}

// own is like get, but looks only in the main section.
func (im *importer) own(name string) *item {
	if it := im.get(name); it != nil && (it.section == im.main || it.section == defaults) {
		return it
	}
	return nil
}

// conceal finds the passwords, and determines what is shown of each parameter.
func (im *importer) conceal() {
	for _, it := range im.items {
		if it.name != "master_db" && it.name != "primary_conninfo" || it.err != nil {
			continue
		}
		clean, secrets, err := withoutPassword(it.value)
		im.secrets = append(im.secrets, secrets...)
		im.Password = im.Password || len(secrets) > 0
		if it.value, it.err = clean, err; err != nil {
			it.value = ""
		}
	}
	for _, it := range im.items {
		switch {
		case it.name == "master_db" || it.name == "primary_conninfo":
			if it.shown = it.value; it.err != nil {
				it.shown = "(not shown, because it may hold a password)"
			}
		case secretNames.MatchString(it.name):
			it.shown = hidden
		case it.err != nil || len(it.value) > 4096:
			it.shown = hide(it.raw, im.secrets)
		default:
			it.shown = hide(it.value, im.secrets)
		}
	}
}

// set adds a key. The parameters that it was made from are printed above it.
func (im *importer) set(name, value, note string, from ...*item) {
	k := key{name: name, value: value, note: note}
	for _, it := range from {
		if it != nil && !it.told {
			it.told = true
			k.from = append(k.from, it)
		}
	}
	im.keys = append(im.keys, k)
}

func (im *importer) warn(format string, args ...any) {
	im.Warnings = append(im.Warnings, fmt.Sprintf(format, args...))
}

// refuse records why a parameter did not become a key.
func (im *importer) refuse(it *item, format string, args ...any) {
	im.why[it] = fmt.Sprintf(format, args...)
	im.warn("%s in line %d is not taken over: %s", visible(it.name), it.line, visible(im.why[it]))
}
