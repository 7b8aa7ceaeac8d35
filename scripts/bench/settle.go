//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// How much memory a run finds ready for use: a little more than it takes for what is stored, and in restores for shared buffers,
// tables and WAL.
const (
	archiveMemory = 1500 << 20
	restoreMemory = 3000 << 20
	backupMemory  = 1500 << 20 // backups, and restores of them
)

// settle brings the machine into the same state before each run: nothing waits to be written to the disk, the run's input is in
// the page cache, and there is free memory that can be used at once. The last matters on virtual machines that hand
// free memory back to their host within seconds, and get it again page by page: a segment's 16 MB can then cost 70 ms, more than
// most contestants need for it, and whether a run meets such memory depends on the run before it.
func settle(input []string, memory int) error {
	syscall.Sync()
	for _, path := range input {
		if err := readThrough(path); err != nil {
			return err
		}
	}
	return touchMemory(memory)
}

func readThrough(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(io.Discard, f)
	return err
}

// touchMemory takes memory, so that the machine has it, and gives it up again at once.
func touchMemory(size int) error {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return fmt.Errorf("how much memory is free: %w", err)
	}
	if uint64(info.Freeram)*uint64(info.Unit) < 2*uint64(size) {
		return nil // the run's memory comes from the page cache then
	}
	memory, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_POPULATE)
	if err != nil {
		return fmt.Errorf("touch memory: %w", err)
	}
	return syscall.Munmap(memory)
}

// A stopwatch sees how much of the machine others use while something is measured.
type stopwatch struct {
	start time.Time
	busy  time.Duration
}

func startStopwatch() stopwatch { return stopwatch{time.Now(), busyTime()} }

// others is the share of all cores that went to others than the processes whose CPU time is given. The kernel's own
// threads, and what the host took away, are among the others.
func (w stopwatch) others(own time.Duration) float64 {
	capacity := time.Since(w.start) * time.Duration(runtime.NumCPU())
	return max(0, float64(busyTime()-w.busy-own)/float64(capacity))
}

// busyTime is the time that the cores were not idle since the machine started, and 0 if that cannot be learnt.
func busyTime() time.Duration {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(stat), "\n")
	var user, nice, system, idle, iowait, irq, softirq, steal int64
	if _, err := fmt.Sscanf(line, "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &iowait, &irq, &softirq, &steal); err != nil {
		return 0
	}
	return time.Duration(user+nice+system+irq+softirq+steal) * tick
}
