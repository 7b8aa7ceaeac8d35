package replication_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"walkeep/common/pgtest"
	"walkeep/common/wal"
	"walkeep/supervisor/replication"
	"walkeep/supervisor/replication/replicationtest"
)

// facts are what a conversation with a server brings to light.
type facts struct {
	System      replication.System
	History     string
	Next        replication.Position // of timeline 1
	Start, End  replication.Position // of a backup
	Tablespaces []replication.Tablespace
	Parts       []replication.Part
}

// converse asks a server that is on timeline 2 for everything that this package can ask for.
func converse(t *testing.T, c *replication.Conn) (f facts) {
	t.Helper()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	f.System, err = c.IdentifySystem(ctx)
	must(err)
	if _, err := c.TimelineHistory(ctx, 7); !replication.HasCode(err, replication.UndefinedFile) {
		t.Errorf("a history that is not there: got %v", err)
	}
	history, err := c.TimelineHistory(ctx, 2)
	must(err)
	f.History = string(history)
	parsed, err := wal.ParseHistory(2, history)
	must(err)
	must(c.CreatePhysicalSlot(ctx, "walkeep"))
	if err := c.CreatePhysicalSlot(ctx, "walkeep"); !replication.HasCode(err, replication.DuplicateObject) {
		t.Errorf("a slot that is there: got %v", err)
	}
	end := replication.Position{Timeline: 1, LSN: parsed.Entries[0].End}
	f.Next = stream(t, c, replication.Position{Timeline: 1, LSN: end.LSN - end.LSN%wal.LSN(f.System.SegmentSize)})
	next, err := c.StartPhysical(ctx, "walkeep", end)
	must(err)
	if next == nil || *next != f.Next {
		t.Errorf("at the end of the timeline: got %v, want %v", next, f.Next)
	}
	must(c.DropSlot(ctx, "walkeep"))
	b, err := c.BaseBackup(replication.BackupOptions{Label: "walkeep", Fast: true, MaxRate: 1 << 30})
	must(err)
	for {
		p, err := b.Next()
		if err == io.EOF {
			break
		}
		must(err)
		_, err = io.Copy(io.Discard, b)
		must(err)
		f.Parts = append(f.Parts, p)
	}
	f.Start, f.End, f.Tablespaces = b.Start, b.End, b.Tablespaces
	return f
}

// stream receives a timeline to its end.
func stream(t *testing.T, c *replication.Conn, from replication.Position) replication.Position {
	t.Helper()
	if next, err := c.StartPhysical(t.Context(), "walkeep", from); next != nil || err != nil {
		t.Fatalf("got %v (%v)", next, err)
	}
	received := 0
	for {
		m, err := c.Receive()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := m.(*replication.XLogData); ok {
			if received == 0 && data.Start != from.LSN {
				t.Errorf("the first message is of %s, want %s", data.Start, from.LSN)
			}
			received += len(data.Data)
		}
	}
	if received == 0 {
		t.Error("no WAL was received")
	}
	next, err := c.EndStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return *next
}

// What servers of all versions send was recorded once (with WALKEEP_GOLDEN=1), and is read as it was then. The commands are
// those that these servers have accepted. Bytes of WAL and of archives were left out in the recording.
func TestRecorded(t *testing.T) {
	record := os.Getenv("WALKEEP_GOLDEN") == "1"
	for major := pgtest.MinMajor; major <= pgtest.MaxMajor; major++ {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			path := filepath.Join("testdata", "recorded", fmt.Sprint(major)+".txt")
			if _, err := os.Stat(path); record && errors.Is(err, os.ErrNotExist) {
				recordServer(t, major, path)
			}
			want, answers := readRecording(t, path)
			var commands []string
			s := &replicationtest.Server{Version: fmt.Sprintf("%d.0", major)}
			s.Command = func(s *replicationtest.Session, command string) {
				i := len(commands)
				commands = append(commands, command)
				if i >= len(answers) || answers[i].command != command {
					s.Error("42601", "this command was not recorded")
					return
				}
				s.Raw(answers[i].bytes)
			}
			s.Start(t)
			c, err := replication.Connect(t.Context(), s.Conninfo(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Abort()
			if got := converse(t, c); !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
			if len(commands) != len(answers) {
				t.Errorf("%d commands were sent, and %d recorded", len(commands), len(answers))
			}
		})
	}
}

// An answer is what a server sent to a command, but for the ReadyForQuery at its end.
type answer struct {
	command string
	bytes   []byte
}

func readRecording(t testing.TB, path string) (f facts, answers []answer) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		kind, quoted, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if kind == "facts" {
			if err := json.Unmarshal([]byte(quoted), &f); err != nil {
				t.Fatal(err)
			}
			continue
		}
		body, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s: %q: %v", path, line, err)
		}
		if kind == "command" {
			answers = append(answers, answer{command: body})
			continue
		}
		last := &answers[len(answers)-1]
		last.bytes = append(binary.BigEndian.AppendUint32(append(last.bytes, kind[0]), uint32(len(body)+4)), body...)
	}
	return f, answers
}

// recordServer holds the conversation with a real server and writes down what both said.
func recordServer(t *testing.T, major int, path string) {
	ctx := t.Context()
	pgtest.Need(t, major)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := pgtest.TempDir(t)
	cluster, err := pgtest.Init(ctx, pgtest.Options{Major: major, Dir: filepath.Join(dir, "data"), Settings: map[string]string{"wal_level": "replica", "hot_standby": "on"}})
	must(err)
	must(cluster.Standby(map[string]string{"restore_command": "false"}))
	must(cluster.Start(ctx))
	defer cluster.Stop(ctx, pgtest.Fast)
	must(cluster.Promote(ctx))
	location := pgtest.TempDir(t)
	must(cluster.Exec(ctx, fmt.Sprintf(`CREATE TABLESPACE apart LOCATION '%s'`, location)))
	must(cluster.Exec(ctx, `CHECKPOINT`))
	var lines recording
	conninfo := relay(t, cluster.ConnString(), &lines)
	c, err := replication.Connect(ctx, conninfo, nil)
	must(err)
	f := converse(t, c)
	c.Close(ctx)
	system, err := cluster.QueryString(ctx, `SELECT system_identifier::text FROM pg_control_system()`)
	must(err)
	oid, err := cluster.QueryString(ctx, `SELECT oid::text FROM pg_tablespace WHERE spcname = 'apart'`)
	must(err)
	if f.System.ID.String() != system || f.System.Major != major || len(f.Tablespaces) != 2 || !strings.Contains(fmt.Sprint(f.Tablespaces), oid+" "+location) {
		t.Fatalf("got %+v; the server says %s, and has %s at %s", f, system, oid, location)
	}
	text, err := json.Marshal(f)
	must(err)
	must(os.MkdirAll(filepath.Dir(path), 0o755))
	// The place of the tablespace is this host's.
	short := "/srv/" + strings.Repeat("x", len(location)-len("/srv/"))
	must(os.WriteFile(path, []byte(strings.ReplaceAll("facts "+string(text)+"\n"+lines.String(), location, short)), 0o644))
}

// A recording collects lines: a command, or the type and the content of a message.
type recording struct {
	mu    sync.Mutex
	lines strings.Builder
	ready bool // the connection was opened
	run   int  // messages of data since the last that was none
}

func (r *recording) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines.String()
}

func (r *recording) command(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.lines, "command %q\n", text)
}

func (r *recording) message(kind byte, body []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if kind == 'Z' {
		r.ready = true
		return
	}
	if !r.ready {
		return
	}
	begins := kind != 'd' || len(body) < 300 && len(body) > 0 && (body[0] == 'n' || body[0] == 'm')
	if begins {
		r.run = 0
	} else if r.run++; r.run > 2 {
		return
	}
	if kind == 'd' {
		body = body[:min(len(body), 96)]
	}
	fmt.Fprintf(&r.lines, "%c %q\n", kind, body)
}

// relay listens, relays connections to a server's socket, and records them.
func relay(t *testing.T, conninfo string, r *recording) string {
	t.Helper()
	words := make(map[string]string)
	for word := range strings.FieldsSeq(conninfo) {
		name, value, _ := strings.Cut(word, "=")
		words[name] = value
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("unix", filepath.Join(words["host"], ".s.PGSQL."+words["port"]))
			if err != nil {
				client.Close()
				return
			}
			go relayMessages(client, server, true, func(kind byte, body []byte) {
				if kind == 'Q' {
					r.command(string(bytes.TrimRight(body, "\x00")))
				}
			})
			go relayMessages(server, client, false, r.message)
		}
	}()
	return fmt.Sprintf("host=127.0.0.1 port=%d user=postgres sslmode=disable", l.Addr().(*net.TCPAddr).Port)
}

func relayMessages(from, to net.Conn, startup bool, said func(kind byte, body []byte)) {
	defer from.Close()
	defer to.Close()
	r := bufio.NewReader(from)
	for {
		var head []byte
		if !startup {
			head = make([]byte, 1)
			if _, err := io.ReadFull(r, head); err != nil {
				return
			}
		}
		head = append(head, 0, 0, 0, 0)
		length := head[len(head)-4:]
		if _, err := io.ReadFull(r, length); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(length)-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		if !startup {
			said(head[0], body)
		}
		startup = false
		if _, err := to.Write(append(head, body...)); err != nil {
			return
		}
	}
}
