package service

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Notifier tells systemd how the service stands, as sd_notify(3) does. The methods of a nil Notifier do nothing.
type Notifier struct {
	socket string
	every  time.Duration // between two signs of life; 0: none is wanted
	last   string        // status
}

// NewNotifier finds the service manager in the environment, and removes it from there: programs that this one starts, such
// as a server, are not to speak for it. It is nil where there is none.
func NewNotifier() *Notifier {
	n := &Notifier{socket: os.Getenv("NOTIFY_SOCKET")}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	pid := os.Getenv("WATCHDOG_PID")
	if err == nil && usec > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = time.Duration(usec) * time.Microsecond / 2
	}
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		os.Unsetenv(name)
	}
	if n.socket == "" {
		return nil
	}
	return n
}

// send tells the service manager something. Where that fails there is nobody to complain to who could do something about
// it; the service manager will notice.
func (n *Notifier) send(state string) {
	if n == nil {
		return
	}
	// Package net takes a name that begins with @ for one in the abstract namespace, as systemd does.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write([]byte(state))
}

// status tells it when it has changed.
func (n *Notifier) status(text string) {
	if n != nil && text != n.last {
		n.last = text
		n.send("STATUS=" + strings.ReplaceAll(text, "\n", " "))
	}
}

func (n *Notifier) reloading() {
	if n != nil {
		n.send("RELOADING=1" + monotonic())
	}
}

// watchdog ticks when it is time for a sign of life.
func (n *Notifier) watchdog() (<-chan time.Time, func()) {
	if n == nil || n.every <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(n.every)
	return t.C, t.Stop
}
