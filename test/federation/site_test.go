package federation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

// service is what all workers of these tests offer: each test has its own brokers.
const service = "work"

// site is a broker, and where those that use it are.
type site struct {
	*rig.Broker
	name    string
	network zsock.Network // nil: this host's
}

// start runs a broker on this host's loopback.
func start(t *testing.T, name string, flags ...string) *site {
	t.Helper()
	return startAt(t, name, "tcp://127.0.0.1:0", flags...)
}

func startAt(t *testing.T, name, listen string, flags ...string) *site {
	t.Helper()
	return &site{Broker: rig.StartBrokerAt(t, listen, append([]string{"--name", name}, flags...)...), name: name}
}

// mesh starts brokers of the names on ports that are known beforehand; peersOf says
// whom each of them dials, by index.
func mesh(t *testing.T, names []string, peersOf func(i int) []int, flags ...string) []*site {
	t.Helper()
	base := meshproc.FreePorts(t, len(names))
	endpoint := func(i int) string { return fmt.Sprintf("tcp://127.0.0.1:%d", base+i) }
	sites := make([]*site, len(names))
	for i, name := range names {
		args := []string{"--advertise", endpoint(i)}
		for _, peer := range peersOf(i) {
			args = append(args, "--peer", endpoint(peer))
		}
		sites[i] = startAt(t, name, endpoint(i), append(args, flags...)...)
	}
	return sites
}

// look is the link to a peer as this site's broker shows it.
func (s *site) look(peer string) (broker.LinkState, error) {
	st, err := s.Look()
	if err != nil {
		return broker.LinkState{}, err
	}
	for _, l := range st.Peers {
		if l.Name == peer {
			return l, nil
		}
	}
	return broker.LinkState{}, fmt.Errorf("%s knows no peer %s: %+v", s.name, peer, st.Peers)
}

// sees waits until both brokers see the link between them in a state that is wanted,
// and returns how long each took.
func sees(t *testing.T, what string, a, b *site, wanted func(state string) bool) (atA, atB time.Duration) {
	t.Helper()
	begun := time.Now()
	rig.Await(t, what, func() error {
		var errs []error
		for _, way := range []struct {
			from, to *site
			took     *time.Duration
		}{{a, b, &atA}, {b, a, &atB}} {
			if *way.took > 0 {
				continue
			}
			link, err := way.from.look(way.to.name)
			if err == nil && !wanted(link.State) {
				err = fmt.Errorf("%s sees %+v", way.from.name, link)
			}
			if err == nil {
				*way.took = time.Since(begun)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	return atA, atB
}

func isDown(state string) bool { return state == "down" }
func isUp(state string) bool   { return state == "up" || state == "slow" }

// linked waits until the links between the sites are up, seen from both ends.
func linked(t *testing.T, a, b *site) {
	t.Helper()
	sees(t, fmt.Sprintf("%s and %s are linked", a.name, b.name), a, b, isUp)
}

// client makes a client at the site, closed with the test.
func (s *site) client(t *testing.T, further ...*site) *client.Client {
	t.Helper()
	endpoints := []string{s.Requests}
	for _, f := range further {
		endpoints = append(endpoints, f.Requests)
	}
	c, err := client.New(client.Config{Brokers: endpoints, Timeout: meshproc.Guard, Network: s.network, Logger: logging.Test(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// works attaches a worker to the site, and to further ones, and waits until it is
// ready. It ends with the test.
func (s *site) works(t *testing.T, concurrency int, handler worker.Handler, further ...*site) {
	t.Helper()
	endpoints := []string{s.Requests}
	for _, f := range further {
		endpoints = append(endpoints, f.Requests)
	}
	w, err := worker.New(worker.Config{Brokers: endpoints, Service: service, Handler: handler, Concurrency: concurrency,
		Network: s.network, DrainTimeout: -1, Logger: logging.Test(t)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("worker at %s: %v", s.name, err)
		}
	})
	select {
	case <-w.Ready():
	case <-time.After(meshproc.Guard):
		t.Fatalf("no worker at %s", s.name)
	}
}

// offered waits until the sites know that others offer the service.
func offered(t *testing.T, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		s.AwaitService(t, service, "a peer offers the service", func(st broker.ServiceState) bool { return st.Peers > 0 })
	}
}

// settled waits until nothing waits and nothing runs at the sites; every request must
// have come to its one end in the books of each.
func settled(t *testing.T, sites ...*site) {
	t.Helper()
	for _, s := range sites {
		s.Await(t, "nothing is left at "+s.name, func(st broker.State) bool {
			n := st.Counters
			for _, sv := range st.Services {
				if sv.Queue > 0 || sv.Running > 0 {
					return false
				}
			}
			return st.HeldOctets == 0 && n["answered"]+n["failed"]+n["returned"]+n["cancelled"] == n["requests"]
		})
		n := s.State(t).Counters
		t.Logf("%s: requests=%d offloaded=%d redelivered=%d late=%d failed=%d returned=%d cancelled=%d",
			s.name, n["requests"], n["offloaded"], n["redelivered"], n["late"], n["failed"], n["returned"], n["cancelled"])
		for _, c := range []string{"peer_lies", "floods", "malformed", "protocol_errors"} {
			if n[c] != 0 {
				t.Errorf("%s counted %d %s", s.name, n[c], c)
			}
		}
	}
}

// counter reads one of the broker's counters.
func (s *site) counter(t *testing.T, name string) uint64 {
	t.Helper()
	n, known := s.State(t).Counters[name]
	if !known {
		t.Fatalf("no counter %s", name)
	}
	return n
}

// offloads waits until the site's broker has given so many more requests to peers.
func (s *site) offloads(t *testing.T, more uint64) time.Duration {
	t.Helper()
	from := s.counter(t, "offloaded")
	return s.Await(t, s.name+" gives work to peers", func(st broker.State) bool { return st.Counters["offloaded"] >= from+more })
}

// through reads HTTP over another network than this host's.
func through(network zsock.Network) *http.Client {
	return &http.Client{Timeout: meshproc.Guard, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
			return network.Dial(ctx, "tcp://"+address)
		}}}
}
