// Package mem keeps points and rows in the memory of one process: nothing is
// shared with other processes and nothing survives a restart.
//
// [Cache] is what push serves browsers from: the newest point of every series
// and window, and the latest changes before it, all bounded. [Store] is a whole
// store.Store for tests and for trying things out.
//
// The one invariant: within a Cache the points are ordered by rev, and a reader
// that asks again with the rev it was given misses nothing, or is told so (gap).
// Start reading at [Cache.Since].
package mem
