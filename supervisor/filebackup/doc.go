// Package filebackup reads the files of a running server's data directory for a base backup: what BASE_BACKUP would send, with
// several readers at once.
//
// # What is read
//
// The rules are those of sendDir and sendTablespace in PostgreSQL's basebackup.c, of the server's major version. Directories whose
// content a server makes anew come empty; pg_wal comes with its empty directories; temporary files, temporary relations and
// the main forks of unlogged relations are left out. Tablespaces come below pg_tblspc/<oid>, first. global/pg_control
// is the last file, read when all others were read.
//
// A file has the size that it had when it was listed. What was appended since is left out, and what was cut off is zeros, because
// replay repeats both. A file that has vanished is left out.
//
// # Page checksums
//
// A page is checked unless it is new or its LSN says that it was changed after the backup began: replay writes such a page as a
// whole. A page that is wrong is read once more, as the server may have been writing it.
package filebackup
