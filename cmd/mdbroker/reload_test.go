package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/internal/logging"
)

// What a changed file says about peers counts after a reload; a faulty one changes
// nothing, and the command line still wins.
func TestReload(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "broker.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b, err := broker.New(broker.Config{Listen: []string{"tcp://127.0.0.1:0"}, Peers: []string{"tcp://127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	o := &options{configFile: file}
	o.cfg.Logger = logging.New("test")
	want := func(endpoints ...string) {
		t.Helper()
		var got []string
		for _, p := range b.Peers() {
			got = append(got, p.Endpoint)
		}
		if strings.Join(got, " ") != strings.Join(endpoints, " ") {
			t.Errorf("peers %q, want %q", got, endpoints)
		}
	}
	want("tcp://127.0.0.1:1")
	write(`peer = ["tcp://127.0.0.1:1", "tcp://127.0.0.1:2,cost=3ms"]`)
	if err := o.reload(b); err != nil {
		t.Fatal(err)
	}
	want("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
	for _, fault := range []string{`peer = ["tcp://127.0.0.1:0"]`, `peer = ["tcp://127.0.0.1:3,cost=x"]`, `pear = []`, `peer = [`} {
		write(fault)
		if err := o.reload(b); err == nil {
			t.Errorf("%s: no error", fault)
		}
		want("tcp://127.0.0.1:1", "tcp://127.0.0.1:2")
	}
	write(`peer = []`)
	if err := o.reload(b); err != nil {
		t.Fatal(err)
	}
	want()
	o.peersGiven, o.peers.List = true, []string{"tcp://127.0.0.1:4"}
	if err := o.reload(b); err != nil {
		t.Fatal(err)
	}
	want("tcp://127.0.0.1:4")
}

// A hangup reloads, and the watcher ends with its context.
func TestHangup(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "broker.toml")
	if err := os.WriteFile(file, []byte(`peer = ["tcp://127.0.0.1:1"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := broker.New(broker.Config{Listen: []string{"tcp://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	o := &options{configFile: file}
	o.cfg.Logger = logging.New("test")
	hangups := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { o.reloads(ctx, b, hangups); close(done) }()
	hangups <- struct{}{}
	hangups <- struct{}{} // taken: the first has been dealt with
	cancel()
	<-done
	if n := len(b.Peers()); n != 1 {
		t.Errorf("%d peers", n)
	}
}
