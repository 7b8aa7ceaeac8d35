// Package storage is the contract of the places that hold an archive: named objects that appear whole and durable or
// not at all, and are never overwritten. docs/storage-backends.md has a checklist for authors of backends; package
// storagetest holds a backend to the contract.
//
// # What is proven, and when
//
// A new object is written, verified and given its name: [Writer]. When Commit has returned without an error, the object is
// whole, durable and visible, and its content is what was written. What is proven before it is visible depends on the store:
//
//   - A directory has the file on disk, and Verify reads it back, before it has a name. An object that fails is never seen.
//   - An object store gives nothing back of an object that is not complete. Before it is visible, a checksum that goes with the
//     upload proves that the store has received what was sent. Where the store answers with the SHA-256 that it has found,
//     of the whole object or of each of its parts, and it is that of what was written, nothing is left to compare, and Verify's
//     callback is not called. Otherwise the callback reads the object during Commit, after it has its name. If it fails, Commit
//     fails, and the object stays: another writer may have found it, compared it with its own content and counted on it. The
//     next call for the name compares again.
//
// A Commit that fails for another reason than ErrExist may have succeeded: the answer can get lost. The caller looks what is
// there, and compares. It must not take an ErrExist of a second attempt for another writer's object without looking.
//
// # How often callbacks run
//
// Verify's callback compares what is stored with what was written, and does nothing else. It runs at most once, in the goroutine that called Verify or Commit, and needs not read to the end. It is not run
// where the name turns out to be taken. A source that can be read only once can thus be written to an object. Nothing
// repeats Write, Verify or Commit for the caller: a backend repeats a part of them only where it holds the bytes.
//
// # Size
//
// [CreateOptions].Size is a hint for the size of parts or buffers. An object may become larger or smaller. Without a hint, a
// backend must cope with the largest volume of a backup.
//
// # Consistency
//
// What Commit, Replace and Remove have done is seen by every Open and List that begins after they have returned, of every
// process. Leases depend on it: who takes one and then looks for a manifest, and who removes the manifest and then looks for
// leases, cannot miss each other. A store with less must wait in Commit, Replace and Remove until this holds.
//
// A listing that runs while objects come and go shows all that were there from its beginning to its end, each once, in the
// order of their names. What came or went meanwhile may be shown or not.
//
// # Errors
//
// [ErrNotExist] and [ErrExist] are given only where the store has answered for that very name. Absence is a reason to remove
// files, so that every doubt must be another error: a missing key, a socket that nobody listens on, a link that leads nowhere.
// None of these sentinels is one of package io/fs. All other errors mean that the backend cannot determine the answer.
//
// # Contexts
//
// A call that may wait for a network ends with its context. A Commit whose context has ended before it began gives no name. What
// was begun with one context may continue with another: the context of Create is that of Create alone.
package storage
