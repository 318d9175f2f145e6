package main

import (
	"fmt"
	"slices"
	"testing"
)

// TestKeeper asserts when the collector's head-room changes and memory is given back:
// at great changes, not at each look.
func TestKeeper(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	var did []string
	k := &keeper{
		setRoom:  func(percent int) int { did = append(did, fmt.Sprint(percent)); return 0 },
		giveBack: func() { did = append(did, "back") },
	}
	for _, step := range []struct {
		held int64
		want []string
	}{
		{0, nil}, {10 * mib, nil}, {0, nil}, // little: left to the collector
		{40 * mib, []string{"20"}}, {256 * mib, nil}, {200 * mib, nil}, {256 * mib, nil}, {100 * mib, nil},
		{60 * mib, []string{"back"}}, {50 * mib, nil}, {20 * mib, nil},
		{10 * mib, []string{"back", "100"}}, {0, nil}, {10 * mib, nil}, {0, nil},
		{33 * mib, []string{"20"}}, {1 * mib, []string{"back", "100"}},
	} {
		did = nil
		if k.look(step.held); !slices.Equal(did, step.want) {
			t.Errorf("at %d MiB: did %q, want %q", step.held/mib, did, step.want)
		}
	}
}
