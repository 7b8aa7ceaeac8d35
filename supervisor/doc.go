// Supervisor is the part of walkeep that a person or the service manager runs: base backups, recovery, retention,
// verification, status, and the service that does by itself what should happen by itself. It is installed as walkeep, too.
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
//	status, check         status.go,       report               everything r, lag.json wd
//	                      check.go
//	cleanup               cleanup.go       retain               everything r; backups/, wal/, partial/, notes d
//	verify                verify.go        verify               wal/, backups/ r, verified/ mwd
//	restore               restore.go,      archive (the plan),  backups/, wal/ r, leases/ mwd, standbys/ m
//	                      standby.go,      restore, launch
//	                      target.go,
//	                      start.go
//	sync                  sync.go          receive, spool       partial/ mwd, streams/ mwd, wal/ m
//	promote               promote.go       promote, spool       partial/ rm, offers/ md, wal/ m
//	rejoin                rejoin.go        restore              backups/, wal/ r, leases/ mwd, standbys/ m
//	pause, continue       pause.go         pgserver             none
//	drill                 drill.go         drill, restore,      backups/, wal/ r, leases/ mwd, verified/ mw
//	                                       launch
//	run                   run.go,          service              those of the commands that it runs
//	                      watch.go
//	service               service.go       service              none
//	import-walmgr         importwalmgr.go  walmgr               none
//
// production.go asks a server which timeline it is on, for the commands whose decision depends on it. Whoever
// has asked the server that is open for writing replaces server.json.
package main
