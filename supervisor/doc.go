// Supervisor is the part of walkeep that a person or the service manager runs: base backups, recovery, retention,
// verification, status, and the service that runs these on schedule. It is installed as walkeep, too.
//
// # Commands
//
// Each command is a file that reads the options, calls the package that does the work, and prints the result. The last
// column names the objects of the archive that the command reads (r), makes (m), replaces (w) or removes (d); all read
// archive.json.
//
//	command               file             package              objects
//	setup                 setup.go         setup                setup.json mwd, partial/ m, wal/*.history m
//	backup                backup.go        basebackup, backup   backups/ m, leases/ mwd; unfinished backups d
//	list                  list.go          report               everything r
//	status, check         status.go,       report, page         everything r, lag.json wd
//	                      check.go
//	cleanup               cleanup.go       retain               everything r; backups/, wal/, partial/, notes d, removals/ mwd
//	verify                verify.go        verify               wal/, backups/ r, verified/ mwd
//	restore               restore.go       recovery, restore,   backups/, wal/ r, leases/ mwd, standbys/ m
//	                                       launch
//	sync                  sync.go          receive, spool       partial/ mwd, streams/ mwd, wal/ m
//	ship                  ship.go          ship, spool          wal/, backups/ rd, ship/ mw; in repositories
//	                                                           wal/, backups/, partial/, notes m
//	fetch                 fetch.go         prefetch, recovery   everything r; fetched/ in the spool mwd
//	promote               promote.go       promote, spool       partial/ rm, offers/ md, wal/ m
//	rejoin                rejoin.go        restore              backups/, wal/ r, leases/ mwd, standbys/ m
//	pause                 pause.go         pgserver             none
//	continue              continue.go      pgserver             none
//	drill                 drill.go         drill, restore,      backups/, wal/ r, leases/ mwd, verified/ mw
//	                                       launch
//	run                   run.go,          service, page        those of the commands that it runs
//	                      watch.go
//	service               service.go       service              none
//	import-walmgr         importwalmgr.go  walmgr               none
//
// In a repository only cleanup removes objects that are no notes, and a note that may not be removed is released; see packages
// archive and notes.
//
// What several commands need:
//
//	invocation.go   one call of a command: its configuration, and where it prints
//	places.go       the archives that a command works on: the spool and repositories, together or one by one
//	feed.go         what the restore-cmd of a server reads: a spool, and a configuration that names repositories (restore, rejoin,
//	                drill)
//	remedy.go       hints for errors of which the package that returns them cannot know the remedy
//	print.go        JSON, numbers, times, progress bars
//	target.go       where recovery ends (restore, rejoin, drill)
//	recover.go      the plan, and the restore that carries it out (restore, rejoin, drill)
//	standbynotes.go what standbys of this host need, for cleanup of repositories (fetch)
//	standby.go      a restored standby (restore, rejoin)
//	start.go        the start of the restored server (restore, rejoin)
//	replay.go       the control of a standby's replay (pause, continue)
//	production.go   which timeline the production server is on (restore, rejoin, drill, cleanup). A command that has asked the server
//	                that is open for writing replaces server.json.
package main
