package push

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/mem"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// guard bounds waiting for what must come soon; no test asserts on it.
const guard = 30 * time.Second

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// tenSeconds makes a point of the n-th window of ten seconds after noon.
func tenSeconds(series string, n int, value float64) store.Point {
	return store.Point{
		Series: series, Window: store.TenSeconds, Start: noon.Add(time.Duration(n) * 10 * time.Second),
		Count: 1, Sum: value, Min: value, Max: value, Mean: value, Last: value,
	}
}

// serve runs a service on a free port and stops it when the test ends. It returns
// host:port.
func serve(t *testing.T, c Config) (*Service, string) {
	t.Helper()
	bound := make(chan string, 1)
	c.Listen = "127.0.0.1:0"
	c.Listening = func(addr string) { bound <- addr }
	s := run(t, c)
	addr := <-bound
	if s.Addr() != addr {
		t.Fatalf("Addr() = %q, told %q", s.Addr(), addr)
	}
	return s, addr
}

// run starts a service and checks that it ends well with the test.
func run(t *testing.T, c Config) *Service {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// pipes is a network in memory: it works with fake time, and a peer that does not
// read stops the writer at once.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes {
	return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case conn := <-p.conns:
		return conn, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, errors.New("nobody listens")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dialWS opens a websocket; network is nil for TCP.
func dialWS(t *testing.T, addr string, network *pipes, header http.Header) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	dialer := websocket.Dialer{HandshakeTimeout: guard}
	if network != nil {
		dialer.NetDialContext = network.dial
	}
	conn, response, err := dialer.Dial("ws://"+addr+"/ws", header)
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, response, err
}

// message is any message of the server.
type message struct {
	Type      string          `json:"type"`
	Rev       int64           `json:"rev"`
	Series    int             `json:"series"`
	Gap       bool            `json:"gap"`
	Points    []livePointJSON `json:"points"`
	Subscribe []string        `json:"subscribe"`
	Error     string          `json:"error"`
}

func receive(t *testing.T, conn *websocket.Conn) message {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(guard))
	var m message
	if err := conn.ReadJSON(&m); err != nil {
		t.Fatalf("receive: %v", err)
	}
	return m
}

// greet dials until the service has read its store, and takes the hello.
func greet(t *testing.T, addr string, network *pipes) (*websocket.Conn, message) {
	t.Helper()
	for range 10_000 {
		conn, response, err := dialWS(t, addr, network, nil)
		if response != nil && response.StatusCode == http.StatusServiceUnavailable {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		hello := receive(t, conn)
		if hello.Type != "hello" {
			t.Fatalf("first message %+v, want a hello", hello)
		}
		return conn, hello
	}
	t.Fatal("the service never got ready")
	return nil, message{}
}

func TestNewChecksItsConfig(t *testing.T) {
	t.Parallel()
	for _, c := range []Config{{}, {Store: mem.NewStore(), Poll: -1}, {Store: mem.NewStore(), MaxClients: -1}} {
		if _, err := New(c); err == nil {
			t.Errorf("New(%+v) was content", c)
		}
	}
}

// TestRunEndsWithAnUnusableStore, at once or when that is found.
func TestRunEndsWithAnUnusableStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		data := mem.NewStore()
		network := newPipes()
		s, err := New(Config{Store: data, listen: func() (net.Listener, error) { return network, nil }})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- s.Run(t.Context()) }()
		data.Fail(store.ErrUnavailable)
		time.Sleep(time.Minute) // fake time
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("ended while the store was away for a while: %v", err)
		default:
		}
		data.Fail(store.ErrUnusable)
		if err := <-ended; !errors.Is(err, store.ErrUnusable) {
			t.Errorf("Run = %v, want %v", err, store.ErrUnusable)
		}
	})
}

func TestRunTellsWhyItCannotListen(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s, err := New(Config{Store: mem.NewStore(), Listen: taken.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	var opErr *net.OpError
	if err := s.Run(t.Context()); !errors.As(err, &opErr) {
		t.Errorf("Run on a taken address: %v", err)
	}
	if err := s.Run(t.Context()); err == nil || errors.As(err, &opErr) {
		t.Errorf("second Run: %v", err)
	}
	if s.Addr() != "" {
		t.Errorf("Addr() = %q without a listener", s.Addr())
	}
}
