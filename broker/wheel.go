package broker

import (
	"math"
	"time"
)

// wheel holds the deadlines of one service's requests in coarse slots, so that
// setting and clearing one is O(1) and free of allocation. It is guarded by the
// service's mutex and ticked by the broker's one ticker.
type wheel struct {
	slots [wheelSlots]list[request]
	n     int
	at    int64 // tick up to which slots were looked at
}

// One turn of the wheel takes 256 ticks of 20 ms; what is due later stays for
// another turn.
const wheelSlots = 256

func (w *wheel) init(now int64) {
	for i := range w.slots {
		w.slots[i].place = wheelPlace
	}
	w.at = now / int64(wheelTick)
}

// add files r under its deadline, which must be set.
func (w *wheel) add(r *request) {
	r.wheelSlot = int32(max(r.deadline/int64(wheelTick), w.at) % wheelSlots)
	w.slots[r.wheelSlot].pushBack(r)
	w.n++
}

func (w *wheel) remove(r *request) {
	if r.wheelSlot < 0 {
		return
	}
	w.slots[r.wheelSlot].remove(r)
	r.wheelSlot = -1
	w.n--
}

// due appends to dst what is due at now and takes it off the wheel: up to limit
// requests. If it finds so many, there may be more.
func (w *wheel) due(now int64, dst []*request, limit int) []*request {
	tick := now / int64(wheelTick)
	if w.n == 0 {
		w.at = tick
		return dst
	}
	for w.at = max(w.at, tick-wheelSlots); ; w.at++ {
		for r := w.slots[w.at%wheelSlots].first; r != nil; {
			next := r.wheel.next
			if r.deadline <= now {
				if len(dst) == limit {
					return dst
				}
				w.remove(r)
				dst = append(dst, r)
			}
			r = next
		}
		if w.at >= tick {
			return dst
		}
	}
}

// deadlineAfter is the broker-clock deadline of a request with ms left; 0 for none.
func deadlineAfter(now int64, ms uint32) int64 {
	if ms == 0 {
		return 0
	}
	return later(now, time.Duration(ms)*time.Millisecond)
}

// later is d after now, both at least 0. Who asks for more than the clock has gets its end:
// a sum that wrapped would be long ago.
func later(now int64, d time.Duration) int64 {
	if int64(d) > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + int64(d)
}
