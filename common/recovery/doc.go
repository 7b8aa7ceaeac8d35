// Package recovery decides what can be recovered from an archive. Every command that reports on an archive or removes something
// from it asks this package, so that all of them give the same answer.
//
// [ReadInventory] takes stock: which WAL is there on which timeline, which backups, and what the notes say. The methods of
// [Inventory] answer from that: [Inventory.Reach] how far a backup can be recovered, [Inventory.Windows] what can be recovered of
// each timeline, [Inventory.Production] which timeline counts. [Inventory.Plan] finds the backup for a target, and reads
// WAL where only the WAL proves that the target is there.
//
// [Fetch] delivers a file to a server that recovers. Where it is missing, Fetch decides whether it is proven never to have
// been there ([ErrAbsent]), which lets PostgreSQL end recovery, or lost ([ErrGap]). [OnWay] keeps a server off WAL that a newer
// timeline has left behind.
//
// An Inventory does not change after it was read, but for what its methods say. Methods that only read it may be called
// concurrently.
package recovery
