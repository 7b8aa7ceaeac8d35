// Package backup is the form in which walkeep stores a base backup: tar volumes that ordinary tools open, an index that
// finds every block of every file in them, and a manifest that speaks for all of it.
//
// # Layout
//
//	backups/<id>/data-0001.tar<ending> ...   volumes
//	backups/<id>/files.json<ending>          index
//	backups/<id>/manifest.json               manifest; written last: a backup without it does not exist
//
// The id is the time (UTC) at which the backup began, 20261123T004501Z, with -2 and so on where that is taken. Nothing
// is ordered by it.
//
// # Volumes
//
// A volume is a stored object of package codec: a tar archive whose stream is cut into chunks of a fixed plain size, each
// compressed by itself, with the trailer that has the chunks' table and the hashes. So `zstd -dc data-*.tar.zst | tar xi`
// expands it, and any chunk can be read alone. Names in it are relative to the data directory; a tablespace is the
// directory pg_tblspc/<oid>, where a restored cluster has a link. A file is never divided between volumes. A volume is
// closed at the end of the file with which it reaches [VolumeSize]. Before a file that would need more chunks than a
// trailer can list, a volume with larger chunks is begun.
//
// # Index
//
// The index is a stored object, too: JSON objects, one for each line. Each is a [File], in the order of the volumes. The
// blocks of a file are its parts of [BlockSize] bytes, the last one shorter; for each there is the XXH3-128 of its plain
// bytes (16 bytes, canonical form). Its plain bytes lie one after the other in the volume's tar stream from the offset
// on.
//
// # Manifest
//
// The manifest is a [Manifest] as one indented JSON object, the last key of which is manifest_sha256: the SHA-256, in
// lower-case hexadecimal, of all bytes before the comma that precedes this key. It holds the SHA-256 of each volume and
// of the index, so that no byte of a backup can change unnoticed.
//
// # Encryption
//
// Volumes and index can be encrypted objects of package sealed; their names end in .age then. The stanza in their header has no
// SHA-256: the manifest has that of all their stored bytes. The manifest itself is never encrypted.
package backup
