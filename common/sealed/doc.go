// Package sealed is the encrypted form of a stored object: an age file (age-encryption.org/v1) that ordinary tools open, and
// whose every stored byte can be verified without a private key.
//
// # A sealed object
//
//	object  = header payload
//	header  = age's: "age-encryption.org/v1" LF, a stanza for each recipient, the stanza "walkeep", "---" SP MAC LF
//	payload = age's: a nonce of 16 bytes, and parts of 64 KiB of the plain text, each sealed by itself
//
// The plain text of the payload is a whole stored object of package codec, with its trailer. So `age -d` prints what would have
// been stored without encryption. The object's name ends in the codec's ending and [Ext].
//
// # The stanza
//
//	-> walkeep 1
//	(body: 160 bytes in base64 without padding, in lines of 64 characters; 214 characters and 4 line feeds)
//
// is the last one. Numbers in its body are little-endian:
//
//	offset  size  field
//	0       32    SHA-256 of all bytes of the object but the characters of this body, with their line feeds, and the 43
//	              characters of the MAC; zero if the flag 1 is set
//	32      32    key of the header's MAC: HKDF-SHA-256 of the file key with the label "header", as age derives it
//	64      16    comparison tag: HMAC-SHA-256 under the comparison key, cut to its first 16 bytes, of the XXH3-128 of the
//	              plain bytes (16 bytes, canonical form), their number (uint64) and the name of the plain file; zero if there
//	              is none
//	80      8     system identifier of the cluster, 0 if not known
//	88      8     plain size in bytes, 0 if the flag 1 is set
//	96      8     LSN of the first byte, 0 if not WAL
//	104     8     LSN of the end of the last complete record, 0 if not checked
//	112     8     LSN of the first damage, 0 if none
//	120     1     version of this format, 1
//	121     1     codec, as in a trailer
//	122     1     WAL check, as in a trailer
//	123     1     flags: 1: the SHA-256 and the plain size are recorded elsewhere, in a backup's manifest
//	124     4     timeline, 0 if not WAL
//	128     4     which comparison key the tag was made with: the first 4 bytes of the HMAC-SHA-256 of "id" under it; zero if there
//	              is no tag
//	132     28    zero
//
// The MAC key is public on purpose. It reveals neither the file key nor the key of the payload, and who can write to the storage
// could replace the whole object anyway. With it, nobody needs a private key to verify the MAC, which covers the stanza.
//
// An age file without this stanza is foreign: another program made it. Only who has a private key can read it, and nothing
// but its content speaks for it.
//
// # Keys
//
// A list of recipients is a file with one public key of age in each line: X25519 (age1...) or hybrid, that is post-quantum
// (age1pq1...), but not both kinds. Empty lines and lines that begin with # do not count. The comparison key is 32 random
// bytes in hexadecimal, in the file [CompareKeyName] in the directory of the list. A file of private keys is one of age's, as
// it is or protected with a passphrase.
package sealed
