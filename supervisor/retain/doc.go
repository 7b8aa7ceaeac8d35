// Package retain decides what an archive still needs, and removes the rest.
//
// # What is kept
//
// A backup counts if it can be restored along any timeline, its objects are whole as far as is known, and its last drill
// did not fail. Of these backups are kept:
//
//   - by keep-backups N, the N newest on the path to the newest timeline, and the N newest of all;
//   - by keep-days D, all that ended in the last D days and, on the path to the newest timeline, the newest one before that;
//   - whatever the rules are, at least one, if possible on the path to the newest timeline;
//   - every backup that a live lease names.
//
// Without a rule all backups are kept. With a rule, a backup that cannot be restored is removed when a newer one that can is
// kept.
//
// The WAL that kept backups, live leases and the notes of standbys need is kept: from where they begin to the end of their
// timeline, and all timelines that come from it after that point. If no kept backup leads to the newest timeline, its WAL and
// that of the timelines that lead to it stay, too. WAL of a timeline whose history cannot be read stays. Histories always
// stay.
//
// File times play no part in any decision. If a need cannot be determined, because a lease, a note or a manifest cannot be
// read, all WAL stays. If a lease or the newest timeline's history cannot be read, all backups stay, too.
//
// # In which order objects are removed
//
// A backup's manifest is removed first, so that no part of a backup ever looks like a backup; then, if no new lease names the
// backup, its volumes and its index. WAL is removed last, the oldest first, after leases, standbys and backups were read
// again. An interrupted cleanup leaves a whole archive, and the next one continues where it stopped.
//
// Where the store refuses a removal, what depends on it stays: the rest of a backup whose manifest stays, the WAL of a backup that
// stays, and the later WAL of the segment's timeline.
//
// # Marks
//
// With a grace, as a repository has it, a cleanup only marks, in a note of package notes. A later one removes what is in a mark that
// is due and is not needed by its own decision, never more than both. It takes out of the marks what the rules keep again; a lease
// alone keeps objects, and leaves them in their marks. A mark is due by the clock of the cleanup's host, which is not believed where
// something contradicts it: see [By].
package retain
