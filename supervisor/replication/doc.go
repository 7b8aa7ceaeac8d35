// Package replication speaks PostgreSQL's streaming replication protocol: it identifies a server, creates and drops
// physical slots, fetches timeline histories, streams WAL, and receives base backups.
//
// The messages of a COPY are types of this package, each with a Decode and an Encode method. The layers below them are
// those of the driver (pgconn and pgproto3). Integers are big-endian; a time is the number of microseconds since
// 2000-01-01 00:00 UTC.
//
// # Messages of START_REPLICATION
//
//	XLogData            'w', start int64, end of the server's WAL int64, time int64, WAL
//	PrimaryKeepalive    'k', end of the server's WAL int64, time int64, reply wanted byte
//	StandbyStatusUpdate 'r', written int64, flushed int64, applied int64, time int64, reply wanted byte
//
// # Messages of BASE_BACKUP
//
// Up to version 14 every archive is a COPY of its own, in the order in which the tablespaces were announced, and from 13
// on the backup manifest follows as one more COPY. Their messages hold nothing but the bytes of the archive. From 15 on
// everything comes in one COPY whose messages have a type:
//
//	NewArchive     'n', name of the archive, zero byte, path of the tablespace, zero byte
//	ManifestStart  'm'
//	ArchiveData    'd', bytes of the archive or of the manifest that began last
//	BackupProgress 'p', bytes sent int64
//
// Sources: the chapter on the streaming replication protocol in PostgreSQL's documentation, [walsender.c] and
// [basebackup_copy.c].
//
// [walsender.c]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/replication/walsender.c
// [basebackup_copy.c]: https://github.com/postgres/postgres/blob/REL_18_STABLE/src/backend/backup/basebackup_copy.c
package replication
