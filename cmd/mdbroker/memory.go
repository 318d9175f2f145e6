package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/broker"
)

// How memory follows what requests hold.
const (
	memoryTick = 500 * time.Millisecond
	muchHeld   = 32 << 20 // octets from which the collector's head-room is small
	littleHeld = muchHeld / 2
	smallRoom  = 20 // percent of head-room: bodies hold no pointers, so collecting them costs little
	fellTo     = 4  // part of the peak at which memory is given back
)

// keeper keeps the process's memory near what requests hold. The collector usually
// lets the heap double, which is cheap while the heap is small; with a queue of
// hundreds of MiB it is not. When the queue has gone, memory goes back to the system
// at once: the runtime would take minutes.
type keeper struct {
	tight bool
	peak  int64 // of octets held, since memory was given back last

	setRoom  func(percent int) int
	giveBack func()
}

func newKeeper() *keeper {
	return &keeper{setRoom: debug.SetGCPercent, giveBack: func() {
		runtime.GC() // pools let go of what two collections found unused
		debug.FreeOSMemory()
	}}
}

// look is called every now and then with the octets that requests hold. It acts only
// when that has changed much.
func (k *keeper) look(held int64) {
	if !k.tight && held >= muchHeld {
		k.tight = true
		k.setRoom(smallRoom)
	}
	k.peak = max(k.peak, held)
	if k.peak >= muchHeld && held <= k.peak/fellTo {
		k.peak = held
		k.giveBack()
	}
	if k.tight && held < littleHeld {
		k.tight = false
		k.setRoom(100)
	}
}

// keepMemory looks after the broker's memory until the func it returns is called, or
// ctx ends. Who sets GOGC or GOMEMLIMIT wants it otherwise, and gets it.
func keepMemory(ctx context.Context, b *broker.Broker) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(memoryTick)
		defer tick.Stop()
		for k := newKeeper(); ; {
			select {
			case <-tick.C:
				k.look(b.Held())
			case <-ctx.Done():
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
