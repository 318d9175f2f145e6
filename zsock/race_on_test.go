//go:build race

package zsock

// raceEnabled: pools drop values at random under the race detector, so that
// allocations cannot be counted.
const raceEnabled = true
