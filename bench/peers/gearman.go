package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"sync"
)

// Packet types of gearman's binary protocol.
const (
	gearCanDo        = 1
	gearPreSleep     = 4
	gearNoop         = 6
	gearSubmitJob    = 7
	gearJobCreated   = 8
	gearGrabJob      = 9
	gearNoJob        = 10
	gearJobAssign    = 11
	gearWorkComplete = 13
	gearWorkFail     = 14

	gearHead = 12
)

// gearman is the gearmand that is installed, with its defaults, and a small client
// and worker of our own. A worker connection runs one job at once, as gearman's do.
func gearman() *system {
	return &system{name: "gearmand", broker: gearmand, work: workGearman, dial: dialGearman}
}

func gearmand(dir string) (launch, error) {
	path, err := exec.LookPath("gearmand")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/gearmand"); err != nil {
			return launch{}, errors.New("not installed (Debian: gearman-job-server)")
		}
	}
	port, err := freePort()
	if err != nil {
		return launch{}, err
	}
	// It removes its pid file at the end, so that must be one of its own.
	cmd := exec.Command(path, "--listen", "127.0.0.1", "--port", port, "--log-file", "none", "--pid-file", dir+"/gearmand.pid")
	return launch{cmd: cmd, endpoint: "127.0.0.1:" + port}, nil
}

// gearPacket is the header of a request packet of size octets.
func gearPacket(kind, size int) []byte {
	h := make([]byte, gearHead)
	copy(h, "\x00REQ")
	binary.BigEndian.PutUint32(h[4:], uint32(kind))
	binary.BigEndian.PutUint32(h[8:], uint32(size))
	return h
}

// eachPacket gives take every packet until the connection ends.
func eachPacket(conn net.Conn, out *outbox, take func(kind int, data []byte)) error {
	return eachRead(conn, func(p []byte) int {
		whole := 0
		for len(p)-whole >= gearHead {
			h := p[whole:]
			end := gearHead + int(binary.BigEndian.Uint32(h[8:]))
			if end > len(h) {
				break
			}
			take(int(binary.BigEndian.Uint32(h[4:])), h[gearHead:end])
			whole += end
		}
		out.write()
		return whole
	})
}

func workGearman(ctx context.Context, endpoint string, s shape, ready func()) error {
	grab := gearPacket(gearGrabJob, 0)
	var asleep sync.WaitGroup
	for range s.Sessions {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", endpoint)
		if err != nil {
			return err
		}
		defer conn.Close()
		out := &outbox{conn: conn}
		out.add(gearPacket(gearCanDo, len(service)), []byte(service), grab)
		out.write()
		asleep.Add(1)
		first := sync.OnceFunc(asleep.Done)
		go func() {
			_ = eachPacket(conn, out, func(kind int, data []byte) {
				switch kind {
				case gearNoJob:
					out.add(gearPacket(gearPreSleep, 0))
					first()
				case gearNoop:
					out.add(grab)
				case gearJobAssign: // handle NUL function NUL body
					handle, rest, _ := bytes.Cut(data, []byte{0})
					_, body, _ := bytes.Cut(rest, []byte{0})
					out.add(gearPacket(gearWorkComplete, len(handle)+1+len(body)), handle, []byte{0}, body, grab)
				}
			})
		}()
	}
	asleep.Wait()
	ready()
	<-ctx.Done()
	return nil
}

// gearConn is one client connection. Answers to SUBMIT_JOB come in its order.
type gearConn struct {
	out *outbox

	mu        sync.Mutex
	submitted []chan int
	running   map[string]chan int // by job handle
}

func dialGearman(ctx context.Context, endpoint string, s shape) (func(int) error, error) {
	conns := make([]*gearConn, s.Connections)
	for i := range conns {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "tcp", endpoint)
		if err != nil {
			return nil, err
		}
		c := &gearConn{out: &outbox{conn: conn}, running: map[string]chan int{}}
		conns[i] = c
		go func() { _ = eachPacket(conn, c.out, c.take) }()
	}
	answers := make([]chan int, s.lanes())
	for i := range answers {
		answers[i] = make(chan int, 1)
	}
	b := body(s.Size)
	head := gearPacket(gearSubmitJob, len(service)+2+s.Size)
	name := []byte(service + "\x00\x00") // no unique id: nothing is coalesced
	return func(lane int) error {
		c := conns[lane%len(conns)]
		c.mu.Lock()
		c.submitted = append(c.submitted, answers[lane])
		c.out.add(head, name, b)
		c.mu.Unlock()
		c.out.flush()
		if n := <-answers[lane]; n != len(b) {
			return fmt.Errorf("%w: %d octets", errAnswer, n)
		}
		return nil
	}, nil
}

func (c *gearConn) take(kind int, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch kind {
	case gearJobCreated:
		c.running[string(data)] = c.submitted[0]
		c.submitted = c.submitted[1:]
	case gearWorkComplete, gearWorkFail:
		handle, body, _ := bytes.Cut(data, []byte{0})
		if answer := c.running[string(handle)]; answer != nil {
			delete(c.running, string(handle))
			answer <- len(body)
		}
	}
}
