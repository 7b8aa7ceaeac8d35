// Package pgtest runs throwaway PostgreSQL clusters, of every major version from 10 to 19, for tests, for the demo and
// for benchmarks. It needs no testing.TB; New, Attach, Each and TempDir are thin helpers for tests.
//
//	c := pgtest.New(t, pgtest.Options{Major: 15, Settings: map[string]string{"archive_mode": "on", ...}})
//	if err := c.Start(ctx); err != nil { ... }
//	segment, err := c.SwitchWAL(ctx)
//	err = c.WaitArchived(ctx, segment)
//
// # Servers
//
// Bindir finds a server where scripts/fetch-postgres puts it, and runs that script for one that is missing. Two
// environment variables are read:
//
//   - WALKEEP_TEST_MAJORS, such as "15,19", restricts the majors that tests run against.
//   - WALKEEP_TEST_POSTGRES names a directory with MAJOR/bin directories, which is searched first. It is the only
//     way to have a server on a system other than Linux.
//
// With WALKEEP_LONG set, Few has more versions.
//
// # Users and directories
//
// PostgreSQL refuses to run as root. When the caller is root, everything here runs as the user postgres, or nobody if
// there is none, and data directories belong to that user. Command runs other programs as that user, too. The user can
// enter neither /root nor testing's own T.TempDir: use TempDir.
//
// A cluster with data directory DIR logs to DIR.log, beside the directory so that no backup contains it, and listens on a
// Unix socket in a short directory of its own (RunDir), with TCP switched off unless Options.TCP is set (Windows always
// uses TCP). Address, port and socket directory are on the server's command line, so that a data directory that was
// restored from a backup of another cluster starts without editing its files.
//
// # What differs from a production server
//
// fsync is off unless Options.Fsync is set: killing processes loses nothing, only a power cut would. shared_buffers is
// 16 MB, and dynamic shared memory is in files below the data directory, so that a killed server leaves nothing in
// /dev/shm.
//
// initdb takes 2 to 4 seconds, so Init copies a template, one for each combination of release, segment size and
// checksums, kept in the user's cache directory. It has no template0, but a table of that size, pgtest_filler. Every copy gets a system identifier of its own, in pg_control and in
// the WAL, as initdb would have given it.
//
// # Processes
//
// On Linux a server dies (as by an immediate shutdown) with the process that started it, so a test that panics or exceeds
// its timeout leaves no server running. Every wait is limited by the context and by a timeout, and its error contains the
// tail of the server's log.
package pgtest
