package pgtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var segmentName = regexp.MustCompile(`^[0-9A-F]{24}$`)

// SystemID reads the system identifier from pg_control, whether the server runs or not.
func (c *Cluster) SystemID() (uint64, error) {
	control, _, err := readControl(c.Dir)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(control), nil
}

// newSystemID makes an identifier as BootStrapXLOG does: seconds, microseconds, and 12 bits, which there come from
// the process id.
func newSystemID() uint64 {
	now := time.Now()
	return uint64(now.Unix())<<32 | uint64(now.Nanosecond()/1000)<<12 | rand.Uint64N(1<<12)
}

// setSystemID gives a cluster that was never started another system identifier. It is in two places, on machines with
// little-endian integers: the first 8 bytes of pg_control, which has a CRC, and the long header at the start of each WAL
// segment (XLogLongPageHeaderData), which has none.
func setSystemID(dir string, id uint64) error {
	control, crcAt, err := readControl(dir)
	if err != nil {
		return err
	}
	old := binary.LittleEndian.Uint64(control)
	binary.LittleEndian.PutUint64(control, id)
	binary.LittleEndian.PutUint32(control[crcAt:], crc32.Checksum(control[:crcAt], castagnoli))
	if err := overwrite(controlPath(dir), 0, control); err != nil {
		return fmt.Errorf("set system identifier: %w", err)
	}
	wal := filepath.Join(dir, "pg_wal")
	entries, err := os.ReadDir(wal)
	if err != nil {
		return fmt.Errorf("set system identifier: %w", err)
	}
	patched := 0
	for _, e := range entries {
		if !segmentName.MatchString(e.Name()) {
			continue
		}
		path := filepath.Join(wal, e.Name())
		header := make([]byte, 32)
		f, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("set system identifier: %w", err)
		}
		_, err = f.ReadAt(header, 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("set system identifier: %w", err)
		}
		const longHeader = 0x0002 // XLP_LONG_HEADER
		if binary.LittleEndian.Uint16(header[2:])&longHeader == 0 || binary.LittleEndian.Uint64(header[24:]) != old {
			continue
		}
		if err := overwrite(path, 24, control[:8]); err != nil {
			return fmt.Errorf("set system identifier: %w", err)
		}
		patched++
	}
	if patched == 0 {
		return errors.New("set system identifier: no WAL segment has the old one")
	}
	return nil
}

func controlPath(dir string) string { return filepath.Join(dir, "global", "pg_control") }

// readControl reads pg_control and finds its CRC, which covers everything before it; its position depends on the
// version. A running server may be writing the file, so a mismatch is retried.
func readControl(dir string) (control []byte, crcAt int, err error) {
	for range 20 {
		control, err = os.ReadFile(controlPath(dir))
		if err != nil {
			return nil, 0, err
		}
		for at := 64; at+4 <= min(len(control), 512); at += 4 {
			if binary.LittleEndian.Uint32(control[at:]) == crc32.Checksum(control[:at], castagnoli) {
				return control, at, nil
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil, 0, fmt.Errorf("read %s: no valid checksum", controlPath(dir))
}

func overwrite(path string, at int64, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, at)
	return errors.Join(err, f.Close())
}
