// Package codec is the form in which walkeep stores a file: compressed so that ordinary tools expand it, cut so that
// its parts can be compressed, checked and expanded side by side, and followed by a trailer with its metadata.
//
// # A stored object
//
//	object  = chunk* trailer
//	chunk   = a complete stream of the codec (a zstd frame, an LZ4 frame, an s2 stream, a gzip member), which expands
//	          to exactly ChunkSize bytes of the plain file; the last one to the rest, at least one byte
//	trailer = head payload tail
//
// The trailer's head and tail wrap the payload in something that the codec's tools skip:
//
//	zstd, lz4  head: a skippable frame's header, 50 2A 4D 18 and the payload's length (uint32)
//	s2         head: a skippable chunk's header, D7 and the payload's length (uint24)
//	gzip       head: a member's header with one extra field: 1F 8B 08 04 00000000 00 FF, payload length + 4 (uint16),
//	           57 4B, payload length (uint16); tail: its empty content, 03 00 00000000 00000000
//
// The codec none stores zstd frames whose blocks are not compressed: `zstd -d` expands those, too, and a file with a
// trailer cannot be mistaken for a plain WAL segment. Files without a trailer are foreign: made by another archiver, and read
// as plain, .zst, .lz4, .s2 or .gz files. Without a trailer their bytes cannot be checked.
//
// # The payload
//
// Numbers are little-endian. The payload is
//
//	offset  size  field
//	0       8     magic "WALKEEP" 00
//	8       2     version of this format, 1
//	10      1     codec: 1 zstd, 2 s2, 3 lz4, 4 gzip, 5 none
//	11      1     WAL check: 0 not WAL, 1 not checked, 2 intact, 3 damaged
//	12      4     chunk size in bytes
//	16      8     system identifier of the cluster, 0 if not known
//	24      8     plain size in bytes
//	32      16    XXH3-128 of the plain bytes, in its canonical (big-endian) form
//	48      32    SHA-256 of the stored bytes before the trailer
//	80      8     LSN of the first byte, 0 if not WAL
//	88      8     LSN of the end of the last complete record, 0 if not checked
//	96      8     LSN of the first damage, 0 if none
//	104     8     mark of the file that was read, 0 if none: an opaque number that its reader knows the same, unmodified
//	              file by
//	112     16    XXH3-128 of the stored bytes before the trailer, which finds accidental damage only
//	128     1     length of the name, N
//	129     1     length of the tool's version, V
//	130     2     zero
//	132     4     number of chunks, C
//	136     4*C   stored length of each chunk in bytes, at most twice the chunk size and 1024
//	...     N     name of the plain file, as PostgreSQL knows it
//	...     V     version of the tool that stored it
//	...     4     length of the payload
//	...     8     XXH3-64 of the payload up to here
//	...     8     magic "WALKEEP" FF
//
// so that a reader finds it from the object's end. The checks notice a changed byte anywhere in an object: SHA-256
// covers the chunks, the payload has its own hash, and head and tail are compared with their only valid bytes.
package codec
