package durable

import "os"

// pieceSize is how many bytes [Pieces] writes at once. A larger write makes the system look for larger pieces of
// memory for its page cache, which it finds among those that have not been used for long. A virtual machine that gives
// such memory back to its host gets it again page by page: one write of 2 MB then took three times as long as 16 of this
// size, which find memory that was in use a moment ago.
const pieceSize = 128 << 10

// Pieces writes to a file in pieces of a size for which the system is fastest.
type Pieces struct{ *os.File }

// Write implements io.Writer.
func (f Pieces) Write(p []byte) (int, error) {
	return inPieces(p, func(piece []byte, _ int64) (int, error) { return f.File.Write(piece) })
}

// WriteAt implements io.WriterAt.
func (f Pieces) WriteAt(p []byte, at int64) (int, error) {
	return inPieces(p, func(piece []byte, done int64) (int, error) { return f.File.WriteAt(piece, at+done) })
}

func inPieces(p []byte, write func(piece []byte, done int64) (int, error)) (int, error) {
	done := 0
	for {
		n, err := write(p[done:min(done+pieceSize, len(p))], int64(done))
		if done += n; err != nil || done == len(p) {
			return done, err
		}
	}
}
