//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"
)

// describeMachine returns when and on which machine the figures were measured.
func describeMachine(ctx context.Context, p *place) string {
	var memory uint64
	if meminfo, err := os.ReadFile("/proc/meminfo"); err == nil {
		_, _ = fmt.Sscanf(after(string(meminfo), "MemTotal:"), "%d", &memory)
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("unknown")
	}
	cpuinfo, _ := os.ReadFile("/proc/cpuinfo")
	model, _, _ := strings.Cut(after(string(cpuinfo), "model name\t:"), "\n")
	if model = strings.TrimSpace(model); model == "" {
		model = runtime.GOARCH
	}
	disk := "unknown file system"
	if out, err := exec.CommandContext(ctx, "findmnt", "-no", "FSTYPE,SOURCE", "-T", p.dir).Output(); err == nil {
		disk = strings.Join(strings.Fields(string(out)), " on ")
	}
	return fmt.Sprintf("%s; %d cores of %s, %.0f GB of memory, %s, Linux %s",
		time.Now().Format(time.DateOnly), runtime.NumCPU(), model, float64(memory)/1e6, disk, strings.TrimSpace(string(kernel)))
}

// after is what follows the first occurrence of a mark.
func after(text, mark string) string {
	_, rest, _ := strings.Cut(text, mark)
	return rest
}
