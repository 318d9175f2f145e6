package worker

import (
	"testing"

	"pgregory.net/rapid"
)

// The table does what a map does.
func TestTable(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var got table
		want := make(map[uint64]*Request)
		// Few different ones, and some that differ in their high or low half only.
		tokens := rapid.Custom(func(t *rapid.T) uint64 {
			return rapid.Uint64Range(0, 40).Draw(t, "n") << rapid.SampledFrom([]int{0, 32}).Draw(t, "shift")
		})
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			token := tokens.Draw(t, "token")
			switch r := want[token]; {
			case r == nil:
				if got.find(token) != nil {
					t.Fatalf("finds %d, which is not there", token)
				}
				r = &Request{token: token}
				got.add(r)
				want[token] = r
			case rapid.Bool().Draw(t, "remove"):
				if !got.remove(r) || got.remove(r) {
					t.Fatalf("does not remove %d once", token)
				}
				delete(want, token)
			case got.find(token) != r:
				t.Fatalf("does not find %d", token)
			}
		}
		if got.n != len(want) {
			t.Fatalf("holds %d, want %d", got.n, len(want))
		}
		got.all(func(r *Request) {
			if want[r.token] != r || !got.remove(r) {
				t.Fatalf("has %d too often", r.token)
			}
			delete(want, r.token)
		})
		if len(want) > 0 || got.n != 0 {
			t.Fatalf("misses %v, holds %d", want, got.n)
		}
	})
}
