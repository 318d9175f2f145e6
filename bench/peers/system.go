package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
)

// system is one of those compared. Its broker, its worker and its client are
// processes of their own; worker and client are this program in another role.
type system struct {
	name string
	// broker says how to start its broker, which may use folder dir; an error says why
	// it cannot be had here.
	broker func(dir string) (launch, error)
	// work offers the echo service on s.Sessions connections until ctx ends. It
	// calls ready as soon as all are there.
	work func(ctx context.Context, endpoint string, s shape, ready func()) error
	// dial opens s.Connections connections and returns what makes one blocking call
	// in a lane; lane l belongs to connection l modulo s.Connections.
	dial func(ctx context.Context, endpoint string, s shape) (call func(lane int) error, err error)
}

var systems = map[string]*system{}

func init() {
	for _, s := range []*system{mdmesh(), plain(), natsCore(), gearman(), relay()} {
		systems[s.name] = s
	}
}

// program finds one of the product's programs.
func program(name string) (string, error) {
	dir := os.Getenv("BIN")
	if dir == "" {
		dir = "bin"
	}
	path := dir + "/" + name
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: run make build first, or set BIN", err)
	}
	return path, nil
}

// freePort is one that nobody listens on now, for a program that cannot choose one
// itself and say so.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// body is what is sent: octets that compress badly enough, should anybody try.
func body(size int) []byte {
	const text = "the quick brown fox jumps over the lazy dog; "
	return []byte(strings.Repeat(text, size/len(text)+1)[:size])
}
