package main

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/broker"
)

// patience is long for a broker that is well, and what one that hangs costs here.
const patience = 2 * time.Second

func bind(t *testing.T) (*options, *broker.Broker) {
	t.Helper()
	any := []string{"tcp://127.0.0.1:0"}
	o := &options{cfg: broker.Config{Listen: any, Publish: any, Subscribe: any, Logger: hclog.NewNullLogger()}, http: "127.0.0.1:0"}
	b, err := broker.New(o.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(); err != nil {
		t.Fatal(err)
	}
	return o, b
}

// TestWell: a broker that serves is well, and looking at it leaves no failure in
// its books.
func TestWell(t *testing.T) {
	t.Parallel()
	o, b := bind(t)
	stop, err := o.serveHTTP(b)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	if err := o.examine(t.Context(), b, 30*time.Second); err != nil {
		t.Error(err)
	}
	if n := b.Counters()["handshakes_failed"]; n > 0 {
		t.Errorf("%d handshakes failed", n)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	// Its listeners are closed: nobody there is not well.
	if err := o.examine(t.Context(), b, patience); err == nil || !strings.Contains(err.Error(), "listener for requests") {
		t.Errorf("after its end: %v", err)
	}
}

// TestHangs: bound but not served is what a hang looks like from outside.
func TestHangs(t *testing.T) {
	t.Parallel()
	o, b := bind(t)
	if err := o.examine(t.Context(), b, patience); err == nil || !strings.Contains(err.Error(), "listener for requests") {
		t.Errorf("not served: %v", err)
	}
	if b.Pulse() < patience {
		t.Errorf("a ticker that never turned was heard %v ago", b.Pulse())
	}
}

// TestDeafHTTP: HTTP is looked at, too.
func TestDeafHTTP(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	o := &options{page: "http://" + l.Addr().String()}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := o.knockHTTP(ctx); !stuck(err) {
		t.Errorf("nobody accepts: %v", err)
	}
	if !stuck((&options{page: "http://127.0.0.1:1"}).knockHTTP(t.Context())) {
		t.Error("nobody listens, and nobody minds")
	}
}

// TestTickerStands: listeners are not all; a ticker that waits for a mutex for ever
// is a hang, too.
func TestTickerStands(t *testing.T) {
	t.Parallel()
	b, err := broker.New(broker.Config{Listen: []string{"tcp://127.0.0.1:0"}}) // nothing is bound, nothing runs
	if err != nil {
		t.Fatal(err)
	}
	if err := new(options).examine(t.Context(), b, time.Nanosecond); err == nil || !strings.Contains(err.Error(), "the ticker has not turned") {
		t.Errorf("a ticker that stands: %v", err)
	}
}
