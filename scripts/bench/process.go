//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// A process is one as /proc describes it.
type process struct {
	parent int
	cpu    time.Duration // its own, and that of the children that it waited for
}

// tick is the unit of CPU time in /proc: USER_HZ is 100 on all of Go's platforms.
const tick = 10 * time.Millisecond

func processes() map[int]process {
	all := map[int]process{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		content, err := os.ReadFile(path)
		if err != nil {
			continue // it ended meanwhile
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if p, ok := parseStat(content); ok && err == nil {
			all[pid] = p
		}
	}
	return all
}

// parseStat reads "pid (name) state ppid ...", of which the 14th to 17th fields are times; the name may hold anything.
func parseStat(content []byte) (p process, ok bool) {
	fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
	const state, ppid, utime, cstime = 3, 4, 14, 17
	if len(fields) <= cstime-state {
		return p, false
	}
	p.parent, _ = strconv.Atoi(string(fields[ppid-state]))
	for _, f := range fields[utime-state : cstime-state+1] {
		ticks, _ := strconv.ParseInt(string(f), 10, 64)
		p.cpu += time.Duration(ticks) * tick
	}
	return p, true
}

// below lists the processes that descend from one.
func below(all map[int]process, root int) []int {
	children := map[int][]int{}
	for pid, p := range all {
		children[p.parent] = append(children[p.parent], pid)
	}
	found := slices.Clone(children[root])
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i]]...)
	}
	return found
}

// killDescendants kills all processes below this one, and returns how many those were.
func killDescendants() int {
	found := below(processes(), os.Getpid())
	for _, pid := range found {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return len(found)
}

// cpuOfTree is the CPU time that a process and its descendants have used until now, those that have ended included. It is
// read again when processes have come or gone meanwhile: one that ends after its parent was read would be missed.
func cpuOfTree(root int) time.Duration {
	var before []int
	for {
		all := processes()
		tree := append(below(all, root), root)
		slices.Sort(tree)
		if slices.Equal(tree, before) {
			var sum time.Duration
			for _, pid := range tree {
				sum += all[pid].cpu
			}
			return sum
		}
		before = tree
	}
}
