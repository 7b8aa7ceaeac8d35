// Package cpuid takes the place of github.com/klauspost/cpuid, for the modules that import that: zeebo/xxh3, and those by which
// minio-go hashes. It knows the features that they ask for, and has them from golang.org/x/sys/cpu.
//
// The module that it replaces finds out all about the processor when a program starts. Each of its questions leaves the virtual
// machine, and together they take a tenth of the time of a call of archive-cmd that has nothing to store.
package cpuid

import "golang.org/x/sys/cpu"

// A FeatureID names a feature of a processor.
type FeatureID int

// Features, with the names that the original has for them.
const (
	SSE2 FeatureID = iota
	SSE4           // 4.1
	CLMUL
	AVX2
	AVX512F
	AVX512DQ
	AVX512VL
	VPCLMULQDQ
	ASIMD
	PMULL
	SHA3
)

var has = [...]bool{
	SSE2:       cpu.X86.HasSSE2,
	SSE4:       cpu.X86.HasSSE41,
	CLMUL:      cpu.X86.HasPCLMULQDQ,
	AVX2:       cpu.X86.HasAVX2,
	AVX512F:    cpu.X86.HasAVX512F,
	AVX512DQ:   cpu.X86.HasAVX512DQ,
	AVX512VL:   cpu.X86.HasAVX512VL,
	VPCLMULQDQ: cpu.X86.HasAVX512VPCLMULQDQ,
	ASIMD:      cpu.ARM64.HasASIMD,
	PMULL:      cpu.ARM64.HasPMULL,
	SHA3:       cpu.ARM64.HasSHA3,
}

// CPUInfo describes a processor.
type CPUInfo struct{}

// CPU is the processor that the program runs on.
var CPU CPUInfo

// Has reports whether the processor and the system support a feature.
func (CPUInfo) Has(id FeatureID) bool { return has[id] }

// Supports reports whether they support all of some features.
func (CPUInfo) Supports(ids ...FeatureID) bool {
	for _, id := range ids {
		if !has[id] {
			return false
		}
	}
	return true
}
