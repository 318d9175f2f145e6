package client

import (
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Every status, as an answer that says the request may have run and one that says
// it has not, for calls and calls once, before and after a partial.
func TestRetryable(t *testing.T) {
	t.Parallel()
	type key struct{ mayHaveRun, once, partials bool }
	never := map[key]bool{}
	always := map[key]bool{}
	unlessRun := map[key]bool{}
	for _, k := range []key{
		{}, {once: true}, {partials: true}, {once: true, partials: true},
		{mayHaveRun: true}, {mayHaveRun: true, once: true},
		{mayHaveRun: true, partials: true}, {mayHaveRun: true, once: true, partials: true},
	} {
		never[k], always[k] = false, true
		unlessRun[k] = !k.mayHaveRun || (!k.once && !k.partials)
	}
	for status, want := range map[mdp.Status]map[key]bool{
		mdp.NotTaken: always,
		mdp.Busy:     unlessRun, mdp.BrokerLost: unlessRun, mdp.PeerLost: unlessRun,
		mdp.BadRequest: never, mdp.Denied: never, mdp.NoWorker: never, mdp.Expired: never,
		mdp.Conflict: never, mdp.Unknown: never, mdp.TooBig: never, mdp.Cancelled: never,
		mdp.Internal: never, mdp.WorkerLost: never, mdp.NoSpace: never, mdp.AppError: never,
	} {
		for k, want := range want {
			e := &mdp.Error{Status: status, MayHaveRun: k.mayHaveRun}
			if got := retryable(e, k.once, k.partials); got != want {
				t.Errorf("%v, may have run %t, once %t, partials %t: retryable is %t", status, k.mayHaveRun, k.once, k.partials, got)
			}
		}
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	busy := func(after time.Duration) *mdp.Error { return &mdp.Error{Status: mdp.Busy, RetryAfter: after} }
	for _, c := range []struct {
		e        *mdp.Error
		refusals int
		from, to time.Duration // for lots of 0 and (nearly) 1
	}{
		{&mdp.Error{Status: mdp.BrokerLost}, 0, 0, 0},
		{&mdp.Error{Status: mdp.BrokerLost}, 5, 0, 320 * time.Millisecond},
		{&mdp.Error{Status: mdp.PeerLost, RetryAfter: time.Second}, 0, time.Second, 2 * time.Second},
		{busy(0), 0, 0, 10 * time.Millisecond},
		{busy(0), 3, 0, 80 * time.Millisecond},
		{busy(0), 60, 0, 2 * time.Second},
		{busy(300 * time.Millisecond), 0, 300 * time.Millisecond, 600 * time.Millisecond},
		{busy(5 * time.Millisecond), 2, 5 * time.Millisecond, 45 * time.Millisecond},
		{&mdp.Error{Status: mdp.NotTaken}, 1, 0, 20 * time.Millisecond},
	} {
		from, to := pause(c.e, c.refusals, 0), pause(c.e, c.refusals, 1)
		if from < c.from || from > c.from+1 || to < c.to || to > c.to+1 {
			t.Errorf("%v after %d refusals: pause from %v to %v, want %v to %v", c.e, c.refusals, from, to, c.from, c.to)
		}
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ endpoint, dialled, want string }{
		{"tcp://10.0.0.1:5556", "tcp://host:5555", "tcp://10.0.0.1:5556"},
		{"tcp://0.0.0.0:5556", "tcp://host:5555", "tcp://host:5556"},
		{"tcp://[::]:5556", "tcp://host:5555", "tcp://host:5556"},
		{"tcp://*:5556", "tcp://[fe80::1]:5555", "tcp://[fe80::1]:5556"},
		{"inproc://events", "inproc://requests", "inproc://events"},
		{"tcp://0.0.0.0:5556", "inproc://requests", "tcp://0.0.0.0:5556"},
	} {
		if got := reachable(c.endpoint, c.dialled); got != c.want {
			t.Errorf("%s by way of %s: %s, want %s", c.endpoint, c.dialled, got, c.want)
		}
	}
}
