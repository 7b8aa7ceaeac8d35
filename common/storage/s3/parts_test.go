package s3

import "testing"

// An object of the largest size, expected or not, has no more parts than S3 takes, and one of a volume's size takes little memory.
func TestParts(t *testing.T) {
	const largest = 5 << 40
	for _, test := range []struct {
		expected, least, size int64
		memory                int // of two parts
	}{
		{0, 16 << 20, 1 << 30, 64 << 20},
		{0, 16 << 20, 40e9, 65e6},
		{0, 16 << 20, largest, 9e9},
		{0, 5 << 20, largest, 9e9},
		{largest, 16 << 20, largest, 9e9},
		{1 << 30, 16 << 20, largest, 9e9}, // it was expected to be smaller
	} {
		part, parts := firstPart(test.expected, test.least), 0
		for sent := int64(0); sent < test.size; parts++ {
			sent += int64(part)
			part = nextPart(part, sent)
		}
		if parts > maxParts || 2*part > test.memory {
			t.Errorf("%+v: %d parts, the last has %d bytes", test, parts, part)
		}
	}
	if got := firstPart(60<<20, 16<<20); got != 60<<20 {
		t.Errorf("an object of 60 MiB is sent in parts of %d", got)
	}
}
