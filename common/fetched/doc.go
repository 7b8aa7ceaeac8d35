// Package fetched keeps, inside a spool, the WAL that supervisor has fetched from repositories for servers that recover, and the notes
// by which restore-cmd and supervisor agree on it.
//
// # Layout
//
//	fetched/<system identifier>/<branch>/              an archive: see package archive
//	fetched/<system identifier>/servers/<id>.want.json what a server asks for: [Want]; restore-cmd replaces it
//	fetched/<system identifier>/servers/<id>.way.json  what that server may be given: [Way]; supervisor replaces it
//	fetched/.prefetch.lock                             locked by the process that fetches ahead
//
// A branch is one way to a timeline: [FirstBranch] for timelines without a history, or else the first 32 hexadecimal digits of the
// SHA-256 of the history file's content. So a file that was fetched of another branch, whose timeline has the same number, is never
// delivered. The branch [OnceBranch] holds files that are asked for each time, such as histories; restore-cmd removes them when it has
// delivered them. A server is identified by the first 16 digits of the SHA-256 of the path of its data directory.
//
// The objects of a branch are ordinary stored objects: expanded ones, as the codec "none" stores them, or the stored bytes of the
// repository as they are. Nothing in fetched/ is made durable. Whoever reads it verifies it, and what is not sound is removed and
// fetched again.
//
// # Who decides what
//
// That a file is absent, or that a segment lies on the way of a server, is decided from the spool and all repositories together, by
// supervisor fetch. A Way holds for [Fresh]; after that restore-cmd has it asked again. An absence is never recorded.
package fetched
