package page_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"walkeep/supervisor/page"
)

// A browser is a Chromium that is controlled over a pipe.
type browser struct {
	t       *testing.T
	to      io.Writer
	from    *bufio.Reader
	n       int
	session string
	logged  []string // what the browser has reported of a page, such as what the policy forbids
}

// open starts Chromium with an empty page. It skips the test unless WALKEEP_CHROMIUM is set.
func open(t *testing.T) *browser {
	t.Helper()
	if os.Getenv("WALKEEP_CHROMIUM") == "" {
		t.Skip("make test-page runs this: it needs Chromium")
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read, to, err := os.Pipe()
	must(err)
	from, write, err := os.Pipe()
	must(err)
	cmd := exec.Command("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
		"--disable-background-networking", "--disable-component-update", "--remote-debugging-pipe", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{read, write}
	must(cmd.Start())
	read.Close()
	write.Close()
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.session = ""
		b.call("Browser.close", nil, nil)
		to.Close()
		cmd.Wait()
		from.Close()
	})
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	b.session = attached.SessionID
	for _, one := range []string{"Page", "Runtime", "Log", "Accessibility", "Network"} {
		b.call(one+".enable", nil, nil)
	}
	return b
}

// call calls a method and waits for its answer.
func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	b.n++
	text, err := json.Marshal(struct {
		ID        int    `json:"id"`
		Method    string `json:"method"`
		Params    any    `json:"params,omitempty"`
		SessionID string `json:"sessionId,omitempty"`
	}{b.n, method, params, b.session})
	if err == nil {
		_, err = b.to.Write(append(text, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	for {
		m := b.next()
		if m.ID != b.n {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v: %s", method, err, m.Result)
			}
		}
		return
	}
}

type message struct {
	ID                    int
	Method                string
	Params, Result, Error json.RawMessage
}

func (b *browser) next() (m message) {
	b.t.Helper()
	text, err := b.from.ReadBytes(0)
	if err == nil {
		err = json.Unmarshal(text[:len(text)-1], &m)
	}
	if err != nil {
		b.t.Fatalf("the browser does not answer: %v", err)
	}
	switch m.Method {
	case "Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled":
		b.logged = append(b.logged, string(m.Params))
	case "Network.requestWillBeSent":
		var sent struct{ Request struct{ URL string } }
		json.Unmarshal(m.Params, &sent)
		b.logged = append(b.logged, "request: "+sent.Request.URL)
	}
	return m
}

// visit loads an address.
func (b *browser) visit(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	for b.next().Method != "Page.loadEventFired" {
	}
}

// show sets the width and the colours of the screen.
func (b *browser) show(width int, colours string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": colours}}}, nil)
}

// eval returns the value of an expression of the page.
func (b *browser) eval(expression string, result any) {
	b.t.Helper()
	var got struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails json.RawMessage
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &got)
	if got.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, got.ExceptionDetails)
	}
	if err := json.Unmarshal(got.Result.Value, result); err != nil {
		b.t.Fatalf("%s: %v: %s", expression, err, got.Result.Value)
	}
}

// photograph writes the whole page as a picture, where WALKEEP_SCREENSHOTS names a directory.
func (b *browser) photograph(name string) {
	dir := os.Getenv("WALKEEP_SCREENSHOTS")
	if dir == "" {
		return
	}
	var got struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &got)
	png, err := base64.StdEncoding.DecodeString(got.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// contrast lists the texts whose contrast with what is behind them is below that of WCAG 2, level AA.
const contrast = `(() => {
	const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
	const parse = c => (c.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number)
	const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2])
	const behind = e => {
		for (; e; e = e.parentElement) {
			const c = parse(getComputedStyle(e).backgroundColor)
			if (c.length < 4 || c[3] > 0) return c
		}
		return [255, 255, 255]
	}
	const found = []
	const all = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
	while (all.nextNode()) {
		const e = all.currentNode.parentElement
		if (!all.currentNode.data.trim() || ['title', 'desc'].includes(e.tagName.toLowerCase()) || !e.getClientRects().length) continue
		const style = getComputedStyle(e)
		const a = light(parse(e.namespaceURI.endsWith('svg') ? style.fill : style.color)), b = light(behind(e))
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)
		if (ratio < 4.5) found.push(ratio.toFixed(2) + ': ' + e.outerHTML.slice(0, 120))
	}
	return found
})()`

// signs lists the signs of the drawings whose contrast with the drawing's ground is below that of WCAG 2 for graphics.
const signs = `(() => {
	const channel = v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4
	const light = c => { c = c.match(/[\d.]+/g).map(Number); return 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]) }
	const found = {}
	for (const e of document.querySelectorAll('figure rect:not(.empty), figure path, figure circle, figure line.fork')) {
		const style = getComputedStyle(e), ground = light(getComputedStyle(e.closest('figure > svg')).backgroundColor)
		const best = Math.max(...[style.fill, style.stroke].filter(c => c.startsWith('rgb')).map(c => { const a = light(c); return (Math.max(a, ground) + 0.05) / (Math.min(a, ground) + 0.05) }))
		if (best < 3) found[e.tagName + '.' + e.getAttribute('class')] = best.toFixed(2)
	}
	return Object.entries(found).map(e => e.join(' '))
})()`

// wide lists what makes the page wider than the screen.
const wide = `[...document.querySelectorAll('body *')].filter(e => !e.closest('.skip') && !(e.closest('svg') && e.tagName != 'svg') && e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('thead')).map(e => e.outerHTML.slice(0, 120))`

// TestBrowser shows each model in Chromium, on narrow and wide screens, light and dark.
func TestBrowser(t *testing.T) {
	b := open(t)
	live := page.Live{Version: "1.2.3"}
	server := httptest.NewServer(&live)
	defer server.Close()
	all := models()
	all["many-400"] = state(many(400, 5000))
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		live.Record(page.State{})
		live.Record(all[name])
		for _, width := range []int{400, 1600} {
			for _, colours := range []string{"light", "dark"} {
				b.show(width, colours)
				b.logged = nil
				b.visit(server.URL)
				what := fmt.Sprintf("%s-%d-%s", name, width, colours)
				b.photograph(what)
				for _, rule := range []struct{ what, expression string }{{"has too little contrast", contrast}, {"is a sign with too little contrast", signs}, {"is wider than the screen", wide}} {
					var found []string
					b.eval(rule.expression, &found)
					for _, one := range found[:min(5, len(found))] {
						t.Errorf("%s: %s: %s", what, rule.what, one)
					}
				}
				for _, one := range b.logged {
					if one != "request: "+server.URL+"/" && !strings.HasPrefix(one, "request: data:") {
						t.Errorf("%s: the browser reports %s", what, one)
					}
				}
			}
		}
		b.judgeTree(name)
	}
}

// judgeTree holds what a screen reader gets: landmarks, headings in order, named drawings, and tables with heads and captions.
func (b *browser) judgeTree(name string) {
	b.t.Helper()
	var tree struct {
		Nodes []struct {
			Ignored    bool
			Role, Name struct{ Value any }
			Properties []struct {
				Name  string
				Value struct{ Value any }
			}
		}
	}
	b.call("Accessibility.getFullAXTree", nil, &tree)
	roles := make(map[string][]string)
	level := 0.0
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, label := fmt.Sprint(n.Role.Value), fmt.Sprint(n.Name.Value)
		roles[role] = append(roles[role], label)
		if role != "heading" {
			continue
		}
		for _, p := range n.Properties {
			if at, ok := p.Value.Value.(float64); ok && p.Name == "level" {
				if at > level+1 {
					b.t.Errorf("%s: the heading %q is of level %v behind one of level %v", name, label, at, level)
				}
				level = at
			}
		}
	}
	if name == "empty" {
		return
	}
	for _, role := range []string{"banner", "main", "navigation", "contentinfo", "region", "image", "table", "columnheader", "rowheader", "cell"} {
		if len(roles[role]) == 0 {
			b.t.Errorf("%s: there is no %s, only %v", name, role, roles)
		}
		for _, label := range roles[role] {
			if label == "" && slices.Contains([]string{"region", "image", "table", "columnheader", "navigation"}, role) {
				b.t.Errorf("%s: a %s has no name", name, role)
			}
		}
	}
}

// TestKeyboard reaches every link and fold with the Tab key, each with a visible focus.
func TestKeyboard(t *testing.T) {
	b := open(t)
	live := page.Live{Version: "1.2.3"}
	live.Record(state(many(60, 3)))
	server := httptest.NewServer(&live)
	defer server.Close()
	b.show(1600, "light")
	b.visit(server.URL)
	var want int
	b.eval(`document.querySelectorAll('a,summary').length`, &want)
	for i := range want {
		for _, kind := range []string{"keyDown", "keyUp"} {
			b.call("Input.dispatchKeyEvent", map[string]any{"type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}, nil)
		}
		var got string
		b.eval(`(() => { const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect(); return e.matches('a,summary') && s.outlineStyle != 'none' && r.left >= 0 ? '' : e.outerHTML.slice(0, 200) + s.outlineStyle + r.left })()`, &got)
		if got != "" {
			t.Fatalf("stop %d of %d has no visible focus: %s", i+1, want, got)
		}
	}
	b.call("Input.dispatchKeyEvent", map[string]any{"type": "keyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}, nil)
	var unfolded int
	b.eval(`document.querySelectorAll('details[open]').length`, &unfolded)
	if unfolded != 1 {
		t.Errorf("the Enter key has unfolded %d folds, want 1", unfolded)
	}
}
