package archive

import (
	"encoding/binary"
	"syscall"
	"time"

	"github.com/zeebo/xxh3"

	"walkeep/common/host"
)

// mark is a number that is the same for the same, unmodified file until the machine is started again; 0 where that
// cannot be told.
func (s *source) mark() uint64 {
	info, err := s.file.Stat()
	if err != nil || host.Boot() == "" {
		return 0
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || time.Since(time.Unix(st.Ctim.Unix())) < settled || time.Since(info.ModTime()) < settled {
		return 0
	}
	b := []byte(host.Boot())
	for _, v := range []uint64{uint64(st.Dev), st.Ino, uint64(st.Size), uint64(st.Mtim.Nano()), uint64(st.Ctim.Nano())} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return xxh3.Hash(b)
}
