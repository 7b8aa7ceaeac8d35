// Package retain decides what an archive still needs, and removes the rest.
//
// # What is kept
//
// A backup counts if it can be restored, along whichever timeline, its objects are whole as far as is known, and its last
// drill did not fail. Of these are kept: by keep-backups N, the N newest on
// the way to the newest timeline and the N newest of all; by keep-days D, all that ended in the last D days and, on the
// way to the newest timeline, the newest one before that; whatever the rules say, one, on the way to the newest timeline
// where there is one; and every backup that a live lease names. Where there is no rule, all backups are kept. A backup
// that cannot be restored is removed under a rule when a newer one that can is kept.
//
// Of the WAL is kept what kept backups, live leases and the notes of standbys need: from where they begin to the end of
// their timeline, and all timelines that come from it after that point. Where no kept backup leads to the newest
// timeline, its WAL and that of the timelines that lead to it stay, too. WAL of a timeline whose history cannot be read
// stays. Histories always do.
//
// Nothing that was decided goes by the times of files. Where what an object needs cannot be told (a lease, a note or a
// manifest that cannot be read), the WAL stays, and of an unreadable lease or of the newest timeline's unreadable history
// the backups, too.
//
// # In which order things go
//
// The manifest of a backup first, so that no part of a backup ever looks like one; then, if no lease has come to name it
// meanwhile, its volumes and its index. WAL goes last, the oldest first, after leases, standbys and backups were read
// again. A cleanup that is interrupted leaves an archive that is whole, and the next one goes on where it stopped.
package retain
