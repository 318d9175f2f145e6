//go:build race

package sqlite

// excerpt bounds the records of each file: under the race detector SQLite in Go
// is more than ten times slower.
const excerpt = 1000
