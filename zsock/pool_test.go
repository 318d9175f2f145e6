package zsock

import "testing"

// TestSlabClasses asserts that a slab is large enough, hardly larger, and that classes
// and capacities grow together.
func TestSlabClasses(t *testing.T) {
	t.Parallel()
	class, size := -1, 0
	for n := 1; n <= maxSlab; n++ {
		c, room := slabClass(n)
		switch {
		case room < n || room > max(minSlab, n+n/8+1):
			t.Fatalf("%d octets take a slab of %d", n, room)
		case room == size && c != class, room != size && (c != class+1 || n != size+1):
			t.Fatalf("%d octets: class %d of %d follows %d of %d", n, c, room, class, size)
		case c >= len(slabPools):
			t.Fatalf("%d octets: class %d of %d", n, c, len(slabPools))
		}
		class, size = c, room
	}
	for _, n := range []int{1, 74, 4105, 70_000, maxSlab, maxSlab + 1} {
		s := newSlab(n)
		if got := len(s.b); got < n || got > max(minSlab, n+n/3) {
			t.Errorf("a slab for %d octets has %d", n, got)
		}
		if cost := slabCost(n); cost > len(s.b) {
			t.Errorf("a slab for %d octets has %d, less than its cost %d", n, len(s.b), cost)
		}
		s.release()
	}
}

// TestHoldLeavesLargeBuffers asserts that a body does not keep a buffer alive that is
// much larger, and that its cost is what it keeps.
func TestHoldLeavesLargeBuffers(t *testing.T) {
	t.Parallel()
	s := newSlab(1 << 20)
	defer s.release()
	for _, tc := range []struct {
		octets int
		shared bool
	}{{16 << 10, false}, {500 << 10, false}, {600 << 10, true}} {
		wire := appendFrame(s.b[:0], 0, make([]byte, tc.octets))
		b := Body{wire: wire, slab: s, size: tc.octets, frames: 1}
		before := b.Cost()
		held := b.Hold()
		if (held.slab == s) != tc.shared {
			t.Errorf("%d octets in a buffer of %d: shared is %v", tc.octets, len(s.b), !tc.shared)
		}
		if cost := held.Cost(); cost != len(held.slab.b) || before > cost || cost > before+before/8 {
			t.Errorf("%d octets cost %d before they are held, %d afterwards, and keep %d", tc.octets, before, cost, len(held.slab.b))
		}
		held.Release()
	}
	if got := (Body{}).Cost(); got != 0 {
		t.Errorf("no frames cost %d", got)
	}
}
