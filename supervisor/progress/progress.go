// Package progress shows the progress of long work: a bar on a terminal, or else a line every 10 seconds.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// interval is the time between two lines where there is no terminal.
const interval = 10 * time.Second

// A Bar counts bytes. Its methods may be called concurrently; those of a nil Bar do nothing.
type Bar struct {
	mu    sync.Mutex
	w     io.Writer
	what  string
	total int64 // bytes; 0 if unknown
	done  int64
	begun time.Time
	next  time.Time // of the next line
	bar   *progressbar.ProgressBar
}

// New begins to show work on total bytes (0 if unknown) on w, usually standard error.
func New(w io.Writer, what string, total int64) *Bar {
	now := time.Now()
	b := &Bar{w: w, what: what, total: total, begun: now, next: now.Add(interval)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		length := total
		if length <= 0 {
			length = -1
		}
		b.bar = progressbar.NewOptions64(length, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionSetPredictTime(true), progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish())
	}
	return b
}

// Add counts n bytes more.
func (b *Bar) Add(n int64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += n
	if b.bar != nil {
		// The server's estimate of the total can be too small, and a full bar would fail.
		if b.total > 0 && b.done > b.total {
			b.total = b.done
			b.bar.ChangeMax64(b.total)
		}
		b.bar.Set64(b.done)
		return
	}
	if now := time.Now(); now.After(b.next) {
		b.next = now.Add(interval)
		b.line(now)
	}
}

func (b *Bar) line(now time.Time) {
	seconds := now.Sub(b.begun).Seconds()
	rate := float64(b.done) / seconds
	if b.total > 0 && rate > 0 {
		left := time.Duration(float64(max(0, b.total-b.done)) / rate * float64(time.Second))
		fmt.Fprintf(b.w, "%s: %s of %s (%d%%), %s/s, %s left\n", b.what, Bytes(b.done), Bytes(b.total),
			min(100, b.done*100/b.total), Bytes(int64(rate)), left.Round(time.Second))
		return
	}
	fmt.Fprintf(b.w, "%s: %s, %s/s\n", b.what, Bytes(b.done), Bytes(int64(rate)))
}

// Done ends the bar, and removes it from a terminal.
func (b *Bar) Done() {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		b.bar.Finish()
	}
}

// Bytes formats a number of bytes for people: 1.5 GB, in powers of 1024 as PostgreSQL counts.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}
