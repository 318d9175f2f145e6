package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/mdmesh/mdmesh/bench/procs"
)

// relay is the floor: what it costs to carry the same octets over the same number of
// TCP connections through a process in between, and nothing more.
//
// A message is its length (4 octets, of what follows), a tag (2 octets client
// connection, 2 octets lane) and the body. Client connection c always goes to worker
// connection c modulo their number: nobody is chosen, nothing is remembered, and no
// more is read of a message than its length and, on the way back, the tag. All whole
// messages of one read go on together; writes are deferred as in the product
// (outbox); 16 KiB and more are written from the read buffer. The worker sends back
// what it reads as it reads it. Client calls block, one in each lane.
func relay() *system {
	return &system{name: "relay", work: workRelay, dial: dialRelay,
		broker: func(string) (launch, error) {
			return launch{cmd: procs.Self("role", "broker", "relay"), prefix: "listening "}, nil
		}}
}

const (
	relayHead   = 8
	relayBuffer = 256 << 10
	relayDirect = 16 << 10
)

// relayBroker is the process in between.
type relayBroker struct {
	mu      sync.Mutex
	workers []*outbox

	clients [1 << 16]atomic.Pointer[outbox]
}

func serveRelay(ctx context.Context) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	fmt.Println("listening", l.Addr())
	r := &relayBroker{}
	for {
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		go r.serve(conn)
	}
}

// serve begins with the peer's hello: 'C' and its number, or 'W'. It is
// acknowledged by one octet once the peer is known.
func (r *relayBroker) serve(conn net.Conn) {
	defer conn.Close()
	var hello [3]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return
	}
	number := int(binary.BigEndian.Uint16(hello[1:]))
	own := &outbox{conn: conn}
	var to *outbox
	r.mu.Lock()
	if hello[0] == 'W' {
		r.workers = append(r.workers, own)
	} else {
		r.clients[number].Store(own)
		if len(r.workers) > 0 { // workers come first
			to = r.workers[number%len(r.workers)]
		}
	}
	r.mu.Unlock()
	if _, err := conn.Write(hello[:1]); err != nil {
		return
	}
	if to != nil {
		r.forward(conn, to)
	} else {
		r.back(conn)
	}
}

// forward carries a client's whole messages to its worker connection.
func (r *relayBroker) forward(conn net.Conn, to *outbox) {
	_ = eachRead(conn, func(p []byte) int {
		whole := 0
		for n := next(p); n > 0; n = next(p[whole:]) {
			whole += n
		}
		if whole == 0 {
			return 0
		}
		if whole < relayDirect || !to.through(p[:whole]) {
			to.add(p[:whole])
			to.flush()
		}
		return whole
	})
}

// back carries a worker's messages to the clients in their tags.
func (r *relayBroker) back(conn net.Conn) {
	var dirty []*outbox
	_ = eachRead(conn, func(p []byte) int {
		whole := 0
		for n := next(p); n > 0; n = next(p[whole:]) {
			to := r.clients[binary.BigEndian.Uint16(p[whole+4:])].Load()
			if n < relayDirect || !to.through(p[whole:whole+n]) {
				to.add(p[whole : whole+n])
				if !slices.Contains(dirty, to) {
					dirty = append(dirty, to)
				}
			}
			whole += n
		}
		if len(dirty) > 0 {
			dirty[0].flush() // yields once for all
			for _, to := range dirty[1:] {
				to.write()
			}
			dirty = dirty[:0]
		}
		return whole
	})
}

// next is the size of the message p begins with, or 0 if it is not all there.
func next(p []byte) int {
	if len(p) < relayHead {
		return 0
	}
	if n := 4 + int(binary.BigEndian.Uint32(p)); n <= len(p) {
		return n
	}
	return 0
}

// eachRead gives take what was read and not yet taken, until the connection ends.
func eachRead(conn net.Conn, take func(p []byte) int) error {
	buf := make([]byte, relayBuffer)
	for have := 0; ; {
		n, err := conn.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		if taken := take(buf[:have]); taken > 0 {
			have = copy(buf, buf[taken:have])
		} else if have == len(buf) {
			return errors.New("a message is larger than the buffer")
		}
	}
}

func relayDial(ctx context.Context, endpoint string, hello ...byte) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(hello); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(conn, hello[:1]); err != nil {
		return nil, fmt.Errorf("wait to be known: %w", err)
	}
	return conn, nil
}

func workRelay(ctx context.Context, endpoint string, s shape, ready func()) error {
	for range s.Sessions {
		conn, err := relayDial(ctx, endpoint, 'W', 0, 0)
		if err != nil {
			return err
		}
		defer conn.Close()
		go func() {
			_ = eachRead(conn, func(p []byte) int {
				n, _ := conn.Write(p) // the next read fails, too
				return n
			})
		}()
	}
	ready()
	<-ctx.Done()
	return nil
}

// relayLane is one blocking caller.
type relayLane struct {
	out    *outbox
	head   [relayHead]byte
	answer chan int // size of the body
}

func dialRelay(ctx context.Context, endpoint string, s shape) (func(int) error, error) {
	lanes := make([]relayLane, s.lanes())
	for c := range s.Connections {
		conn, err := relayDial(ctx, endpoint, 'C', byte(c>>8), byte(c))
		if err != nil {
			return nil, err
		}
		out := &outbox{conn: conn}
		for i := range s.Inflight {
			l := &lanes[i*s.Connections+c]
			l.out, l.answer = out, make(chan int, 1)
			binary.BigEndian.PutUint32(l.head[:], uint32(relayHead-4+s.Size))
			binary.BigEndian.PutUint16(l.head[4:], uint16(c))
			binary.BigEndian.PutUint16(l.head[6:], uint16(i))
		}
		go func() {
			_ = eachRead(conn, func(p []byte) int {
				whole := 0
				for n := next(p); n > 0; n = next(p[whole:]) {
					i := int(binary.BigEndian.Uint16(p[whole+6:]))
					lanes[i*s.Connections+c].answer <- n - relayHead
					whole += n
				}
				return whole
			})
			for i := range s.Inflight {
				close(lanes[i*s.Connections+c].answer)
			}
		}()
	}
	b := body(s.Size)
	return func(lane int) error {
		l := &lanes[lane]
		l.out.add(l.head[:], b)
		l.out.flush()
		if n, ok := <-l.answer; !ok || n != len(b) {
			return errAnswer
		}
		return nil
	}, nil
}
