// Package netns makes network namespaces for tests: two hosts and the cable between
// them, which can be unplugged, cut one way, made to lose packets, and mended.
//
// The one invariant: namespaces are gone when the test has ended, and those of a test
// process that was killed are removed by the next one. Start reading at Pair.
package netns
