//go:build unix

package sftp_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"walkeep/common/storage"
	"walkeep/common/storage/sftp/sftptest"
)

// Two hosts store objects of the same names over connections that break again and again. No object is lost, replaced or
// damaged, and each object that was reported as stored is there.
func TestFaultyNetwork(t *testing.T) {
	s := sftptest.Start(t, sftptest.Options{})
	objects := 100
	if n, _ := strconv.Atoi(os.Getenv("WALKEEP_RACES")); n > 0 {
		objects = n
	}
	name := func(i int) string { return fmt.Sprintf("wal/%02d/%04d", i/50, i) }
	content := func(host, i int) string { return strings.Repeat(fmt.Sprintf("%d %d;", host, i), 1+i*97%9000) }
	stop := make(chan struct{})
	var faults, hosts sync.WaitGroup
	var broken [2]int
	won := make([][]bool, 2) // by host and object
	for host := range won {
		won[host] = make([]bool, objects)
		proxy := sftptest.NewProxy(t, s.Address())
		o := options(s)
		o.Port, o.KnownHosts, o.HostKey = proxy.Port, "", s.HostKey
		b := open(t, o)
		faults.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(host)))
			for {
				n := 1 + random.IntN(60)
				if random.IntN(2) == 0 {
					proxy.CutBefore(n)
				} else {
					proxy.LoseAnswer(n)
				}
				for !proxy.Broke() {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
				}
				broken[host]++
			}
		})
		work := make(chan int)
		hosts.Go(func() {
			for i := range objects {
				work <- i
			}
			close(work)
		})
		for range 3 {
			hosts.Go(func() {
				for i := range work {
					for try := 0; ; try++ {
						err := storage.Put(t.Context(), b, name(i), text(content(host, i)), nil)
						if err == nil {
							won[host][i] = true
							break
						}
						if errors.Is(err, storage.ErrExist) {
							break
						}
						if errors.Is(err, storage.ErrNotExist) || errors.Is(err, storage.ErrDenied) || try == 100 {
							t.Errorf("%s: host %d: %v", name(i), host, err)
							break
						}
					}
				}
			})
		}
	}
	hosts.Wait()
	close(stop)
	faults.Wait()
	direct := open(t, options(s))
	for i := range objects {
		got, err := storage.ReadAll(t.Context(), direct, name(i), 1<<20)
		if err != nil {
			t.Errorf("%s is lost: %v", name(i), err)
			continue
		}
		owner := 0
		if string(got) != content(0, i) {
			owner = 1
		}
		if string(got) != content(owner, i) {
			t.Errorf("%s is damaged: %d bytes", name(i), len(got))
		}
		if won[1-owner][i] {
			t.Errorf("%s: host %d was told that its object is stored, and it is that of host %d", name(i), 1-owner, owner)
		}
	}
	t.Logf("%d and %d connections were broken", broken[0], broken[1])
	if broken[0]+broken[1] < objects/20 {
		t.Errorf("only %d and %d connections were broken", broken[0], broken[1])
	}
}
