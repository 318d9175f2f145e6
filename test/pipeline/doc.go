// Package pipeline holds tests of the whole main job with real processes: data
// over TCP through ingest, two brokers, transform workers, rows and roll-ups to
// the page, held up by a supervisor. They kill each kind of process, feed it real
// data and rubbish, and compare what is stored and shown with what was sent.
//
// The one invariant they are about: a record that was answered ok is one row,
// counted once in every window, whatever died meanwhile.
//
// Start reading at TestRun, and mesh_test.go for what they share. The tests need
// nothing but Go; the one that looks at the page needs Chromium, too.
package pipeline
