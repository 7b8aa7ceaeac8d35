package s3test

import (
	"bytes"
	crand "crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Distributed store is four processes of MinIO, each with a directory of its own, behind a balancer, which gives each connection
// to the next one that answers. URL is that of the balancer.
type Distributed struct {
	*Server
	nodes []*node
	log   func(format string, args ...any)

	mu     sync.Mutex
	next   int
	passed int64
	doomed int64    // when so many bytes have passed, the victim is killed
	victim int      // the process that the last of these bytes went through at the first time; -1 before
	killed chan int // gets its number
}

type node struct {
	address string
	cmd     *exec.Cmd
	ended   chan struct{}
	output  bytes.Buffer
}

// StartDistributed starts a store at the ports 9001 to 9004 of an address that belongs to this host alone, and is not 127.0.0.1, which
// MinIO refuses.
func StartDistributed(t testing.TB, host string) *Distributed {
	t.Helper()
	path, err := program(MinIO, "--path")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	d := &Distributed{log: t.Logf, victim: -1, Server: &Server{Kind: MinIO, URL: "http://" + l.Addr().String(), AccessKey: "test-access", SecretKey: "test-secret-" + crand.Text(),
		Dir: t.TempDir(), path: path}}
	for i := range 4 {
		d.nodes = append(d.nodes, &node{address: fmt.Sprintf("%s:%d", host, 9001+i)})
	}
	for i := range d.nodes {
		d.Start(t, i)
	}
	t.Cleanup(func() {
		for i, n := range d.nodes {
			d.Kill(i)
			if t.Failed() {
				t.Logf("%s says:\n%s", n.address, n.output.String())
			}
		}
	})
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go d.balance(c)
		}
	}()
	d.Whole(t)
	return d
}

// Start starts a process again that was killed.
func (d *Distributed) Start(t testing.TB, i int) {
	t.Helper()
	n := d.nodes[i]
	args := []string{"server", "--quiet", "--address", n.address}
	for j, other := range d.nodes {
		args = append(args, "http://"+other.address+filepath.Join(d.Dir, fmt.Sprint(j)))
	}
	n.cmd = exec.Command(d.path, args...)
	for _, variable := range os.Environ() {
		if !strings.Contains(strings.ToUpper(variable), "_PROXY=") {
			n.cmd.Env = append(n.cmd.Env, variable)
		}
	}
	n.cmd.Env = append(n.cmd.Env, "MINIO_ROOT_USER="+d.AccessKey, "MINIO_ROOT_PASSWORD="+d.SecretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "MINIO_CI_CD=1")
	n.cmd.Stdout, n.cmd.Stderr = &n.output, &n.output
	if err := n.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n.ended = make(chan struct{})
	go func() {
		n.cmd.Wait()
		close(n.ended)
	}()
}

// Kill kills a process and waits for its end.
func (d *Distributed) Kill(i int) {
	d.nodes[i].cmd.Process.Kill()
	<-d.nodes[i].ended
}

// Whole waits until the store could do without each of its processes, so that all of them are there and know each other.
func (d *Distributed) Whole(t testing.TB) {
	t.Helper()
	for _, n := range d.nodes {
		for limit := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
			answer, err := (&http.Client{Transport: &http.Transport{}}).Get("http://" + n.address + "/minio/health/cluster?maintenance=true")
			if err == nil {
				answer.Body.Close()
				if answer.StatusCode == http.StatusOK {
					break
				}
				err = fmt.Errorf("it answers %s", answer.Status)
			}
			if time.Now().After(limit) {
				t.Fatalf("%s is not ready: %v", n.address, err)
			}
		}
	}
}

// KillAfter has a process killed after so many bytes from now on, always the same one: what is stored while one is away lacks its part
// there, and may be unreadable without another one. The channel gets its number.
func (d *Distributed) KillAfter(bytes int64) <-chan int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.doomed, d.killed = d.passed+bytes, make(chan int, 1)
	return d.killed
}

// count counts bytes that have passed through a process.
func (d *Distributed) count(i int, bytes int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.passed += int64(bytes)
	if d.killed != nil && d.passed >= d.doomed {
		if d.victim < 0 {
			d.victim = i
		}
		d.Kill(d.victim)
		d.log("process %d was killed", d.victim)
		d.killed <- d.victim
		d.killed = nil
	}
}

func (d *Distributed) balance(c net.Conn) {
	defer c.Close()
	for range d.nodes {
		d.mu.Lock()
		i := d.next % len(d.nodes)
		d.next++
		d.mu.Unlock()
		to, err := net.Dial("tcp", d.nodes[i].address)
		if err != nil {
			continue
		}
		defer to.Close()
		go func() {
			defer to.Close()
			d.copy(i, to, c)
		}()
		d.copy(i, c, to)
		return
	}
}

func (d *Distributed) copy(i int, to io.Writer, from io.Reader) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
			d.count(i, n)
		}
		if err != nil {
			return
		}
	}
}
