package service

import (
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Notifier sends the service's state to systemd, as sd_notify(3) does. The methods of a nil Notifier do nothing.
type Notifier struct {
	socket string
	every  time.Duration // the interval between watchdog messages; 0: none are wanted
	last   string        // the last status that was sent
}

// NewNotifier finds the service manager in the environment, and removes it from there, so that programs that this one
// starts, such as a server, do not send messages in its name. It returns nil if there is no service manager.
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

// send sends a message to the service manager. It ignores errors: the caller could not act on them, and the service manager
// notices missing messages.
func (n *Notifier) send(state string) {
	if n == nil {
		return
	}
	// Package net maps a name that begins with @ to the abstract namespace, as systemd does.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.SetWriteDeadline(time.Now().Add(time.Second))
	c.Write([]byte(state))
}

// status sends the status if it has changed.
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

// watchdog returns a channel that ticks when a watchdog message is due, and a function that stops it.
func (n *Notifier) watchdog() (<-chan time.Time, func()) {
	if n == nil || n.every <= 0 {
		return nil, func() {}
	}
	t := time.NewTicker(n.every)
	return t.C, t.Stop
}
