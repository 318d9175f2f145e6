package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/bench/load"
)

// pair is two ends of a TCP connection.
func pair(t *testing.T) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Whatever add, flush and through do at once, every message arrives whole, once.
func TestOutboxLosesNothing(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	const writers, each, size = 8, 2000, 64
	out := &outbox{conn: a}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			p := bytes.Repeat([]byte{byte(w)}, size)
			for i := range each {
				if i%3 == 0 && out.through(p) {
					continue
				}
				out.add(p[:10], p[10:])
				out.flush()
			}
		})
	}
	if err := b.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var got [writers]int
	p := make([]byte, size)
	for range writers * each {
		if _, err := io.ReadFull(b, p); err != nil {
			t.Fatalf("after %v messages: %v", got, err)
		}
		if !bytes.Equal(p, bytes.Repeat(p[:1], size)) {
			t.Fatalf("a message is mixed: %q", p)
		}
		got[p[0]]++
	}
	wg.Wait()
	if slices.Min(got[:]) != each {
		t.Errorf("messages by writer: %v, want %d each", got, each)
	}
}

func TestRelayCarriesEveryCall(t *testing.T) {
	t.Parallel()
	for _, s := range []shape{shapeI, shapeIII, shape64} {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				for r := (&relayBroker{}); ; {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					go r.serve(conn)
				}
			}()
			ready := make(chan struct{})
			go func() { _ = workRelay(t.Context(), l.Addr().String(), s, func() { close(ready) }) }()
			<-ready
			call, err := dialRelay(t.Context(), l.Addr().String(), s)
			if err != nil {
				t.Fatal(err)
			}
			if r := load.Run(s.lanes(), 100*time.Millisecond, call); r.Errors > 0 || r.Calls == 0 {
				t.Errorf("the load came to %+v", r)
			}
		})
	}
}

func TestGearmanProtocol(t *testing.T) {
	t.Parallel()
	near, far := pair(t)
	out := &outbox{conn: near}
	c := &gearConn{out: out, running: map[string]chan int{}}
	answers := []chan int{make(chan int, 1), make(chan int, 1)}
	c.submitted = slices.Clone(answers)
	go func() { _ = eachPacket(near, out, c.take) }()
	packet := func(kind int, data string) []byte {
		p := append([]byte("\x00RES"), make([]byte, 8)...)
		binary.BigEndian.PutUint32(p[4:], uint32(kind))
		binary.BigEndian.PutUint32(p[8:], uint32(len(data)))
		return append(p, data...)
	}
	stream := slices.Concat(packet(gearJobCreated, "H:1"), packet(gearJobCreated, "H:2"), packet(gearWorkComplete, "H:2\x00four"), packet(gearWorkComplete, "H:1\x00"))
	for _, octet := range stream { // cut anywhere
		if _, err := far.Write([]byte{octet}); err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range []int{0, 4} {
		select {
		case got := <-answers[i]:
			if got != want {
				t.Errorf("answer %d has %d octets, want %d", i, got, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("no answer %d", i)
		}
	}
}
