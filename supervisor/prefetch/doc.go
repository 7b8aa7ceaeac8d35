// Package prefetch fetches WAL from repositories into fetched/ in the spool, for servers that recover. Package fetched specifies what
// lies there.
//
// A [Fetcher] makes one file ready for restore-cmd, or determines that it is absent. A [Keeper] keeps the segments ready that servers
// will ask for next, while they ask.
package prefetch
