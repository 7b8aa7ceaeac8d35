package promote

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"walkeep/common/notes"
	"walkeep/supervisor/pgserver"
)

// listen returns the conninfo of a port, and serves each connection there; with serve nil nothing listens there.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if serve == nil {
		l.Close()
	} else {
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					defer c.Close()
					serve(c)
				}()
			}
		}()
	}
	return fmt.Sprintf("host=127.0.0.1 port=%d user=keeper dbname=postgres sslmode=disable", l.Addr().(*net.TCPAddr).Port)
}

// answer refuses a session as a server does.
func answer(code, message string) func(net.Conn) {
	return func(c net.Conn) {
		b := pgproto3.NewBackend(c, c)
		if _, err := b.ReceiveStartupMessage(); err == nil {
			b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
			b.Flush()
		}
	}
}

// TestCheckDown judges places at which no server accepts a session. It is in the package because Run asks the standby before.
func TestCheckDown(t *testing.T) {
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	for _, test := range []struct {
		name  string
		serve func(net.Conn)
		named bool
		want  error
		words string // in the error, or in the only warning
		down  bool   // the place is named as down
	}{
		{name: "nothing listens where the user says", named: true, down: true},
		{name: "nothing listens where the standby streamed from", words: "if that server was a standby itself, its primary was not checked"},
		{name: "starting up", serve: answer("57P03", "the database system is starting up"), named: true, want: ErrPrimaryLives, words: "it is not known whether it is open for writing"},
		{name: "shutting down", serve: answer("57P03", "the database system is shutting down"), want: ErrPrimaryLives, words: "it is not known whether it is open for writing"},
		{name: "full", serve: answer("53300", "sorry, too many clients already"), named: true, want: ErrPrimaryLives, words: "too many clients"},
		{name: "no entry", serve: answer("28000", "no pg_hba.conf entry"), named: true, want: ErrPrimaryLives, words: "no pg_hba.conf entry"},
		{name: "another service", serve: func(c net.Conn) { io.WriteString(c, "SSH-2.0\r\n") }, named: true, want: ErrPrimaryLives, words: "it accepts connections"},
		{name: "hangs", serve: hang, named: true, want: ErrPrimaryLives, words: "can resume at any moment"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			places, err := pgserver.Places(listen(t, test.serve))
			if err != nil {
				t.Fatal(err)
			}
			var said []string
			p := &promoter{Options: Options{Step: func(string) {}, Warn: func(_, message string) { said = append(said, message) }}}
			err = p.checkDown(t.Context(), places, test.named)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err != nil {
				said = append(said, err.Error())
			}
			if test.words == "" && len(said) > 0 || test.words != "" && (len(said) != 1 || !strings.Contains(said[0], test.words)) {
				t.Errorf("got %q, want only %q", said, test.words)
			}
			if down := slices.Contains(p.done.Down, places[0].String()); down != test.down {
				t.Errorf("the places that are down are %q", p.done.Down)
			}
		})
	}
}

// TestMayHear judges by their notes which streams may be connected to a primary that lives.
func TestMayHear(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(s *notes.Stream)
		want  bool
	}{
		{"a stream of the standby's timeline", func(*notes.Stream) {}, true},
		{"of a newer timeline", func(s *notes.Stream) { s.Timeline = 3 }, true},
		{"of an older timeline", func(s *notes.Stream) { s.Timeline = 1 }, false},
		{"stopped", func(s *notes.Stream) { s.Ended = true }, false},
		{"never connected", func(s *notes.Stream) { s.Heard = time.Time{} }, false},
		{"not connected any more", func(s *notes.Stream) { s.Trouble = "connection refused" }, false},
		{"connected, and without room", func(s *notes.Stream) { s.Trouble, s.Unstored = "disk full", "disk full" }, true},
		{"from a standby that has more", func(s *notes.Stream) { s.FromStandby, s.Sent = true, 0x5000001 }, true},
		{"from a standby that has as much", func(s *notes.Stream) { s.FromStandby, s.Sent = true, 0x5000000 }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := &promoter{trace: trace{timeline: 2, has: 0x5000000}}
			s := notes.Stream{Timeline: 2, Sent: 0x5000000, Heard: time.Now()}
			test.spoil(&s)
			if got := p.mayHear(s); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

// TestForce has --force turn what the fence refuses into a warning.
func TestForce(t *testing.T) {
	for _, force := range []bool{false, true} {
		warned := ""
		p := &promoter{Options: Options{Force: force, Step: func(string) {}, Warn: func(_, message string) { warned = message }}}
		p.servers = strings.Replace(listen(t, answer("57P03", "the database system is starting up")), "host=127.0.0.1 port=", "host=127.0.0.1,127.0.0.1 port=", 1)
		err := p.fence(t.Context())
		if force && (err != nil || !strings.Contains(warned, "not stopped, because of --force")) || !force && (!errors.Is(err, ErrPrimaryLives) || warned != "") {
			t.Errorf("force %v: got %v, warning %q", force, err, warned)
		}
	}
}
