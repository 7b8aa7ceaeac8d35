// Package notes keeps what those who work on an archive leave for each other in it: small JSON objects, each of which its owner
// replaces as a whole.
//
//	leases/<id>.json          what a running backup, restore or drill needs: [Lease]
//	standbys/<id>.json        what a standby still needs: [Standby]
//	streams/<slot>.json       how a stream is doing: [Stream]
//	offers/<id>.json          the streamed part of a segment that one standby gets before its promotion: [Offer]
//	damaged/<name>.json       a segment that was archived with broken records: [Damage]; written once
//	verified/<backup>.json    what verify and drill found of a backup: [Record]
//	verified/<name>.json      a segment that verify --deep found damaged: [Spoiled]
//	removals/<id>.json        what cleanup has marked for removal in a repository: [Removal]
//	removals/latest           whether what a repository has long held is being changed, and the ID of the latest change: see
//	                          package storage/listing; no JSON
//	server.json               what the production server said: [Server]
//	ship/<repository>.json    how far a repository holds what the spool holds: [Shipping]
//	lag.json                  the oldest segment that the archive lacks: [Lacking]
//
// A note that cannot be read or understood is a [Fault], which the reader of a directory of notes returns beside the others.
//
// # Released notes
//
// An owner removes a note that has no purpose any more. Where the store does not let this caller remove objects, the owner
// replaces the note by {"released":true}. A released note counts as one that is not there. Cleanup removes it.
//
// # Removals
//
// In a repository, cleanup marks objects before it removes them:
//
//	{
//	  "id": "...",                        names the note
//	  "repository": "offsite",            the repository's name in the configuration of the host that marked
//	  "host": "db1", "user": "postgres",  who marked
//	  "marked": "2026-11-28T04:00:00Z",   when, by the clock of that host
//	  "until": "2026-11-29T04:00:00Z",    the earliest time of the removal: marked and delete-grace
//	  "machine": "...", "boot": "...",    the host and the run of its kernel, and
//	  "uptime": 3600000000000,            how long it had run, in nanoseconds; by this a jump of the clock is noticed
//	  "backups": ["20261120T020000Z"],    backups, with all their objects
//	  "wal": [{"first": "000000010000000000000001", "last": "0000000100000000000000F0"}],
//	  "streamed": [...],                  as wal
//	  "timelines": [3]                    timelines, with all that there is of them, as cleanup --drop-timeline removes them
//	}
//
// A range of "wal" stands for all files of its segments below wal/: complete and partial segments and backup label files. A range
// of "streamed" stands for what partial/ has of its segments. Both ends are included, and both are of one timeline. A mark
// removes nothing: cleanup removes what is due in a mark only if it would also mark it then. It takes out of a mark what the
// retention rules keep again, and removes a mark that is empty.
package notes
