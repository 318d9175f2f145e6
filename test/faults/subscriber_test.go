package faults

import (
	"context"
	"sync"
	"testing"

	"github.com/mdmesh/mdmesh/test/meshproc"
	"github.com/mdmesh/mdmesh/zsock"
)

// subscriber is a SUB socket of topic t that remembers the bodies it has seen.
type subscriber struct {
	conn *zsock.Conn

	mu     sync.Mutex // guards the following
	seen   map[string]bool
	closed bool
}

func subscribe(t *testing.T, endpoint string) *subscriber {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), meshproc.Guard)
	defer cancel()
	s := &subscriber{seen: make(map[string]bool)}
	conn, err := zsock.Dial(ctx, endpoint, zsock.Config{Type: zsock.Sub}, s)
	if err != nil {
		t.Fatal(err)
	}
	s.conn = conn
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = conn.Run(context.Background())
	}()
	t.Cleanup(func() {
		conn.Close(nil)
		<-ended
	})
	var batch zsock.Batch
	if err := conn.Send(&batch, [][]byte{[]byte("\x01t")}, zsock.Body{}); err != nil {
		t.Fatal(err)
	}
	batch.Flush()
	return s
}

// again is s, or another subscriber if s was cut off for its slowness.
func again(t *testing.T, s *subscriber, endpoint string) *subscriber {
	t.Helper()
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	if closed {
		t.Log("the slow subscriber was cut off; it comes again")
		return subscribe(t, endpoint)
	}
	return s
}

func (s *subscriber) has(body string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[body]
}

// Opened implements zsock.Handler.
func (s *subscriber) Opened(*zsock.Conn) {}

// Message implements zsock.Handler.
func (s *subscriber) Message(_ *zsock.Batch, _ *zsock.Conn, m *zsock.Msg) {
	if frames := m.Frames(); len(frames) == 2 && len(frames[1]) < 100 {
		s.mu.Lock()
		s.seen[string(frames[1])] = true
		s.mu.Unlock()
	}
}

// Closed implements zsock.Handler.
func (s *subscriber) Closed(*zsock.Batch, *zsock.Conn, error) {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}
