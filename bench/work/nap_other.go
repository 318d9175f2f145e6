//go:build !linux

package work

import "time"

// sleepUntil returns when Now is at, as well as the runtime's timers can tell.
func sleepUntil(at time.Duration) { time.Sleep(at - Now()) }
