package main

import (
	"testing"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// A detached call whose answer may still come has a ticket, others have none.
func TestLeftBehind(t *testing.T) {
	t.Parallel()
	id := mdp.RequestID{15: 1}
	for _, c := range []struct {
		detached bool
		status   mdp.Status
		ran      bool
		want     string
	}{
		{true, mdp.Cancelled, true, id.String() + ".me"},
		{true, mdp.BrokerLost, true, id.String() + ".me"},
		{true, mdp.BrokerLost, false, ""},
		{true, mdp.AppError, true, ""},
		{false, mdp.Cancelled, true, ""},
	} {
		err := &client.Error{Op: "call", ID: id, Err: &mdp.Error{Status: c.status, MayHaveRun: c.ran}}
		if got := leftBehind(client.Call{Detached: c.detached}, "me", err); got != c.want {
			t.Errorf("%+v: %q", c, got)
		}
	}
}
