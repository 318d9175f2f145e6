package zsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mdmesh/mdmesh/zsock/memsock"
)

func TestListenerEnds(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		h, client := newRecorder(), newRecorder()
		l, err := Listen(tr.endpoint, Config{Type: Router, Network: tr.network}, h)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		c := dial(t, tr, l, Config{}, client)
		connect(t, tr, l) // silent
		l.StopAccepting()
		l.StopAccepting()
		if _, err := Dial(t.Context(), l.Endpoint(), Config{Type: Dealer, Network: tr.network}, client); err == nil {
			t.Error("a stopped listener still accepts")
		}
		send(t, c, "drained")
		receive(t, h.messages)
		cancel()
		if err := receive(t, done); err != nil {
			t.Errorf("run: %v", err)
		}
		if len(h.closed) != 1 || !errors.Is(<-h.closed, ErrClosed) {
			t.Error("the connection was not told before Run returned")
		}
		if got := l.Counters(); got.Open != 0 || got.Handshaking != 0 {
			t.Errorf("left behind: %+v", got)
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		h := newRecorder()
		l := listen(t, tr, Config{MaxConns: 3, MaxHandshakes: 4, HandshakeTimeout: patience}, h)
		var silent []*rawPeer
		for range 6 {
			silent = append(silent, &rawPeer{Conn: connect(t, tr, l), t: t})
		}
		// The two oldest are turned away; the youngest may still finish.
		silent[0].ended()
		silent[1].ended()
		p := silent[5]
		p.write(say(ready("DEALER")))
		receive(t, h.opened)
		if got := l.Counters(); got.Refused["max-handshakes"] != 2 || got.Handshaking != 3 || got.Open != 1 {
			t.Errorf("counters %+v", got)
		}
		open(t, tr, l, "DEALER", 0)
		open(t, tr, l, "DEALER", 0)
		receive(t, h.opened)
		receive(t, h.opened)
		(&rawPeer{Conn: connect(t, tr, l), t: t}).ended()
		if got := l.Counters(); got.Refused["max-conns"] != 1 || got.Open != 3 || len(h.closed) != 0 {
			t.Errorf("counters %+v", got)
		}
		_ = p.Close()
		receive(t, h.closed)
		waitFor(t, func() bool { return l.Counters().Open == 2 })
		open(t, tr, l, "DEALER", 0)
		receive(t, h.opened)
	})
}

// Whoever is told why it is refused, and does not hang up, is a handshake until then: the
// oldest gives way to others, and the end of the listener waits for none.
func TestRefusedStrangersCountAsHandshakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memsock.New()
		l, err := Listen("tcp://broker:0", Config{Type: Router, MaxHandshakes: 2, Network: n}, newRecorder())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		began := time.Now()
		var refused []*rawPeer
		for range 5 {
			p := &rawPeer{Conn: connect(t, transport{network: n}, l), t: t}
			p.write(say(ready("PUB")))
			if rest := string(p.ended()); !strings.Contains(rest, "\x05ERROR") {
				t.Errorf("told %q", rest)
			}
			refused = append(refused, p)
			synctest.Wait()
		}
		for i, p := range refused {
			if _, err := p.Write([]byte{0}); (err != nil) != (i < 3) {
				t.Errorf("stranger %d writes: %v", i, err)
			}
		}
		if got := l.Counters(); got.Handshaking != 2 || got.Refused["max-handshakes"] != 3 || len(got.Failed) != 0 {
			t.Errorf("counters %+v", got)
		}
		cancel()
		if err := receive(t, done); err != nil || time.Since(began) != 0 {
			t.Errorf("ended after %v: %v", time.Since(began), err)
		}
	})
}

// One host that connects and says nothing more takes no place that another one needs:
// it ends at four fifths of them.
func TestOneHostLeavesPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memsock.New()
		h := newRecorder()
		tr := transport{network: n, endpoint: "tcp://broker:0"}
		l := listen(t, tr, Config{MaxConns: 100}, h)
		from := func(host string) transport { return transport{network: n.Host(host)} }
		for range 80 {
			open(t, from("crowd"), l, "DEALER", 0)
		}
		synctest.Wait()
		for range 30 {
			(&rawPeer{Conn: connect(t, from("crowd"), l), t: t}).ended()
		}
		if got := l.Counters(); got.Open != 80 || got.Refused["max-of-host"] != 30 || len(got.Refused) != 1 {
			t.Errorf("counters %+v", got)
		}
		for i := range 16 {
			open(t, from("other"), l, "DEALER", 0)
			synctest.Wait()
			if got := l.Counters(); got.Open != 81+i {
				t.Fatalf("%d are open", got.Open)
			}
		}
		(&rawPeer{Conn: connect(t, from("other"), l), t: t}).ended()
		for range 4 {
			open(t, from(fmt.Sprint("third", l.Counters().Open)), l, "DEALER", 0)
			synctest.Wait()
		}
		(&rawPeer{Conn: connect(t, from("late"), l), t: t}).ended()
		if got := l.Counters(); got.Open != 100 || got.Refused["max-of-host"] != 31 || got.Refused["max-conns"] != 1 {
			t.Errorf("counters %+v", got)
		}
	})
}

// What is told of places is by who is open now.
func TestPlacesOfAHostComeFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memsock.New()
		h := newRecorder()
		tr := transport{network: n, endpoint: "tcp://broker:0"}
		l := listen(t, tr, Config{MaxConns: 10}, h)
		var peers []*rawPeer
		for range 8 {
			peers = append(peers, open(t, tr, l, "DEALER", 0))
			synctest.Wait()
		}
		(&rawPeer{Conn: connect(t, tr, l), t: t}).ended()
		for _, p := range peers {
			_ = p.Close()
			receive(t, h.closed)
		}
		synctest.Wait()
		if len(l.hosts) != 0 {
			t.Errorf("%v are remembered", l.hosts)
		}
		open(t, tr, l, "DEALER", 0)
	})
}

func TestHostOf(t *testing.T) {
	t.Parallel()
	tcp := func(address string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(address)) }
	for want, addresses := range map[host][]net.Addr{
		"192.0.2.7":         {tcp("192.0.2.7:1"), tcp("192.0.2.7:2"), tcp("[::ffff:192.0.2.7]:3")},
		"192.0.2.8":         {tcp("192.0.2.8:1")},
		"2001:db8:1:2::/64": {tcp("[2001:db8:1:2::1]:1"), tcp("[2001:db8:1:2:ffff::9]:1")},
		"2001:db8:1:3::/64": {tcp("[2001:db8:1:3::1]:1")},
		"fe80::/64":         {tcp("[fe80::1%eth0]:1")},
		"here":              {tcp("127.0.0.1:1"), tcp("127.9.9.9:1"), tcp("[::1]:1"), &net.UnixAddr{Name: "@"}, &net.UnixAddr{Name: "/run/x"}},
	} {
		for _, a := range addresses {
			if got := hostOf(a); got != want {
				t.Errorf("%v is of host %q, want %q", a, got, want)
			}
		}
	}
}

// Whoever closes connections may name the reason. Names are bounded: what comes beyond
// is counted all the same.
func TestReasonsOfOthers(t *testing.T) {
	t.Parallel()
	late := NewReason("late", "it is late")
	if wrapped := fmt.Errorf("closing: %w", late); late.Error() != "it is late" || !errors.Is(wrapped, late) || errors.Is(wrapped, NewReason("late", "it is late")) {
		t.Errorf("%v", wrapped)
	}
	var tally tally
	for range 2 {
		tally.count(fmt.Errorf("closing: %w", late))
		tally.count(ErrPeerClosed)
		tally.count(errors.New("nameless"))
		for i := range 2 * maxReasons {
			tally.count(NewReason(fmt.Sprint("reason ", i), ""))
		}
	}
	var got ListenerCounters
	tally.fill(&got)
	sum := uint64(0)
	for _, n := range got.Closed {
		sum += n
	}
	if got.Closed["late"] != 2 || got.Closed["peer-closed"] != 2 || got.Closed["reason 0"] != 2 || len(got.Closed) != maxReasons || sum != 2*(3+2*maxReasons) {
		t.Errorf("closed %v", got.Closed)
	}
}

// shortNetwork has no descriptors for the first tries.
type shortNetwork struct {
	*memsock.Net
	failures int
	at       []time.Time
}

type shortListener struct {
	net.Listener
	n *shortNetwork
}

func (n *shortNetwork) Listen(endpoint string) (net.Listener, error) {
	l, err := n.Net.Listen(endpoint)
	return &shortListener{l, n}, err
}

func (l *shortListener) Accept() (net.Conn, error) {
	l.n.at = append(l.n.at, time.Now())
	if len(l.n.at) <= l.n.failures {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &shortNetwork{Net: memsock.New(), failures: 12}
		h := newRecorder()
		tr := transport{"short", n, "tcp://broker:0", false}
		l := listen(t, tr, Config{}, h)
		dial(t, tr, l, Config{HandshakeTimeout: time.Minute}, newRecorder())
		receive(t, h.opened)
		synctest.Wait()
		var waits []time.Duration
		for i := 1; i < 13; i++ {
			waits = append(waits, n.at[i].Sub(n.at[i-1])/time.Millisecond)
		}
		if want := []time.Duration{5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000, 1000, 1000}; !slices.Equal(waits, want) {
			t.Errorf("waits of %d ms", waits)
		}
		if got := l.Counters().AcceptErrors; got != 12 {
			t.Errorf("%d accept errors", got)
		}
	})
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	var b Backoff
	for range 3 {
		ceiling := 50 * time.Millisecond
		for range 100 {
			if d := b.Next(); d <= 0 || d > ceiling {
				t.Fatalf("wait %v over %v", d, ceiling)
			}
			ceiling = min(2*ceiling, 2*time.Second)
		}
		b.Reset()
	}
	var longest time.Duration
	for range 1000 {
		longest = max(longest, b.Next())
	}
	if longest < time.Second {
		t.Errorf("longest of 1,000 waits is %v", longest)
	}
}
