package main

import (
	"reflect"
	"testing"

	"github.com/mdmesh/mdmesh/broker"
)

// Two names never give one label: the whole answer would be refused.
func TestLabels(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for _, name := range []string{"echo", "grüße", "\xff", `"\xff"`, `\xff`, "a\nb", `a\nb`, `"`, " "} {
		label := printable(name)
		if other, taken := seen[label]; taken {
			t.Errorf("%q and %q are both %q", name, other, label)
		}
		seen[label] = name
	}
	if seen["echo"] != "echo" || seen["grüße"] != "grüße" {
		t.Error("plain names are changed")
	}
}

// Several endpoints may lead to one peer.
func TestLinkStates(t *testing.T) {
	t.Parallel()
	got := linkStates([]broker.LinkState{
		{Name: "b", State: "down"}, {Name: "b", State: "up"}, {Name: "b", State: "down"},
		{Name: "c", State: "down"}, {Name: "c", State: "down"}, {Endpoint: "tcp://x:1", State: "down"},
	})
	if want := map[string]float64{"b": 1, "c": 0, "tcp://x:1": 0}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
