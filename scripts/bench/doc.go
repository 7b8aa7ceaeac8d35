//go:build linux

// Command bench measures how fast a backlog of real WAL segments is archived and restored, by walkeep and by others,
// through PostgreSQL's own archiver and startup process; how fast base backups are taken and restored; and how far behind the
// server its WAL is streamed.
// "make bench" runs it; "go run ./scripts/bench --help" lists its flags. It prints Markdown on stdout and its progress on
// stderr, and exits with 1 if a contestant failed.
//
//	go run ./scripts/bench                              everything, three rounds, a quarter of an hour on two cores
//	go run ./scripts/bench --part backup                base backups alone; "archive", "stream" and "ship" are the other parts
//	go run ./scripts/bench --only cp,walkeep-zstd       these two, in both parts, and /bin/true, the floor of archiving
//	go run ./scripts/bench --bindir /usr/lib/walkeep    installed binaries instead of freshly built ones
//
// It needs PostgreSQL 15 with pgbench (Debian: postgresql-15). scripts/fetch-pgbackrest gets the newest pgBackRest that Debian has;
// where it cannot, that is left out, and so is the installed one ("pgbackrest-installed") where there is none.
// As root it runs the servers and all commands as the user postgres, with its files in /var/tmp/walkeep-bench; as
// another user they are below the user's cache directory. About 6 GB are used while it runs. The prepared clusters,
// 2 GB, stay there for the next time; --clean removes them.
//
// # The backlog
//
// A recipe (recipe.go, recipe/*.sql) loads a fresh cluster whose archive_command always fails: pgbench -i, then in turn
// pgbench's default transactions after a checkpoint, so that page images are written, and text: log lines, JSON events
// and documents of words, inserted, revised and deleted, with their indexes. Seeds and counts are fixed; what differs from
// one preparation to the next is how pgbench's two clients interleave. The first 72 segments are the backlog. Tables are dropped
// at the end, which makes the data directory small and keeps the WAL as it was. A cold copy of the data directory from
// before the load is the base that restores start from.
//
// # A round of archiving
//
// Each round runs every contestant once, starting with another one each time, so that slow changes of the machine meet all of
// them. A ratio compares two runs of one round. The tables show the median over the rounds, with the least and the greatest.
//
//   - Archiving: a copy of the prepared data directory, whose segments are hard links, all .ready. The server starts with the
//     contestant's archive_command. The time is from the server's "ready to accept connections", which is when
//     the archiver starts, to the appearance of the last segment's .done. A call that the server sees fail
//     fails the contestant: the archiver's pause after it would spoil the figure.
//   - Restoring: a copy of the cold base with recovery.signal and the contestant's restore_command, from what
//     it archived just before. Segments per second with replay are (n-1) / (last - first), by the times of the server's "restored
//     log file" lines. Those of the command alone are n / (sum of the times from "executing restore command", which a
//     server logs at DEBUG3, to "restored log file"). Replay of this WAL takes about 30 ms per segment, as the row "ln"
//     shows, which makes a hard link instead of a copy, so only the second figure distinguishes the contestants well.
//
// The servers run with usual settings; fsync is on. Off is only the work that would start at different moments in different runs:
// autovacuum, and checkpoints that are due by time or WAL. Before each run the dirty pages are written to the disk, the segments
// are read into the page cache, where they are when a server has just written them, and free memory is touched (settle.go).
// The report warns if other processes took much of the machine meanwhile.
//
// # A round of base backups
//
// The cluster (cluster.go) is loaded by the same means, pgbench's tables at a larger scale and six helpings of text, and
// keeps its tables: 700 MB with checksums. Each round has for each contestant, in turn:
//
//   - The backup. A server runs on a copy of the cluster, idle, with the contestant's own archive_command: the WAL that a
//     backup needs has to arrive in the contestant's own archive, if the contestant waits for that. pg_basebackup and cp
//     have "cp". All checkpoints are fast, walkeep and pgBackRest use two cores, zstd is at level 1 as in archiving,
//     and walkeep's level is its default. What is stored counts without WAL.
//   - The restore into an empty directory, the server being down, and where the contestant has one, a delta restore into
//     the same directory, which then does not differ.
//   - What walkeep and pgBackRest restored is started, recovers with the restore_command that they have set, and must hold
//     the right number of rows, which reads the tables' pages with their checksums. That is not measured.
//   - The same server is then started once more, on the timeline of its own that it has by now, changes rows at random, which
//     makes about a page in a hundred differ, and is lost. It is made a standby of the archive's timeline again: by rejoin, and
//     with pgBackRest by a delta restore.
//
// The time is that of the call, from fork to exit. All of it is durable: the tools' own fsyncs are on, and
// where a tool has none, as cp and tar, "sync -f" follows and is part of the time. "cp -a" of a running server is no
// backup; it shows what the disk and the page cache allow. As pg_backup_stop looks once a second whether the last
// segment is archived, pg_basebackup takes up to a second longer than it works. Before each run all that the contestant
// reads is in the page cache.
//
// # S3
//
// The S3 server is versitygw on the same machine, over TLS, without which pgBackRest does not work, with kept connections. It shares the
// two cores, and its CPU time is in no figure but its own. Its store is on the same disk.
//
// Backups to S3 and restores from there are taken in the same way as others, of the same cluster and of one with 10,000 tables of one
// page each. walkeep's spool is then a directory of its own, and pgBackRest archives straight to the bucket.
//
// # A round of streaming
//
// A fresh server writes 50 MB of WAL a second for ten seconds: transactions of one message of 1 MB (pg_logical_emit_message)
// that compresses to half, at a steady pace. "supervisor sync" and "pg_receivewal --synchronous" stream from it side by side,
// so both meet the same disk. Every 50 ms one query asks for pg_current_wal_flush_lsn() and for the flush_lsn of both in
// pg_stat_replication, which each reports after an fsync. The lag at a moment is for how long the server had been ahead of
// where the stream was then (lag.go); what is printed is the median and the greatest of a run, and then the median over the
// rounds. CPU time is the process's own in /proc, in percent of a core over the ten seconds, and apart from it that of the
// archive-cmd processes that it has waited for, until eight seconds later; memory is VmHWM.
//
// With the same server as primary a standby is then restored and streams from it. When it has replayed all, the primary is
// stopped with an immediate shutdown. The time of the promotion is that from the call of "supervisor promote" to the first
// INSERT that the standby takes, which is tried every 5 ms.
//
// # WAL from S3
//
// One more way to restore has the archive shipped to the S3 server, which is not measured. The recovering server's spool is empty:
// restore-cmd has supervisor fetch the segments, which it fetches ahead. The CPU time is that of
// the server and what it starts; the process that fetches ahead lives on by itself, and is not in it.
//
// # A round of shipping
//
// The backlog is archived into a spool, which is not measured. "supervisor ship" copies it to the S3 server, from the start of the
// process to its end. The same objects are uploaded by storage/s3 alone, one after the other, to the same server; ratios are those
// of the two times of one round. Memory is ru_maxrss. The rival is pgBackRest's asynchronous archive_command, which compresses and stores straight in a bucket; two figures compare with it:
// "ship" alone, and the time of archiving in the same round added to it.
//
// # CPU time
//
// The server and the calls by hand run below a small launcher (reap.go), which is this program again, as a child subreaper
// (PR_SET_CHILD_SUBREAPER): processes that detach themselves, as the workers of pgBackRest's asynchronous mode do,
// become its children when their parents end. It waits for all of them with wait4, whose usage covers a
// process and the children that it waited for. So the sum over what it reaped is the CPU time, user and system, of everything that
// ran: server, shells, commands and workers. In all runs compared it was within 5 ms of the cpu.stat of a cgroup of version 2 around
// the same run; most of that was the launcher itself. It needs no cgroup that can be written to. Kernel threads, such as those
// that write to the disk, are in neither. "Net" is the same less that of the floor in the same round: /bin/true
// for archiving, ln for restoring.
//
// Of base backups the tool's CPU time is measured so, and that of the server beside it, with the processes that send the backup
// and archive, is what /proc says of its processes before and after, in steps of 10 ms.
//
// # Memory and latency
//
// Peak memory is the largest ru_maxrss of a single process among all that one call by hand starts, directly or detached. For archiving
// the archive is empty and eight segments are .ready, so that looking ahead is included. The kernel counts for a
// program also what its parent had when it called exec, here the launcher's 5 MB; figures at that level are shown as an upper bound. Of base backups it is the largest process of the tool in the measured call, so
// that one of a tool that works with several processes has to be multiplied.
//
// The latency of a call whose segment is already archived is measured by hand, the server being down, in the way
// PostgreSQL makes the call: through sh -c, a hundred times a round, in turn with /bin/true through sh -c, whose figure
// stands beside it and is part of it.
package main
