//go:build !race

package sqlite

// excerpt bounds the records of each file; here it takes them whole.
const excerpt = 1 << 20
