package rig

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/wire"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// Peer connects one that speaks for itself, closed with the test.
func Peer(t testing.TB, endpoint string) *wire.Peer {
	t.Helper()
	p, err := wire.Dial(endpoint, meshproc.Guard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// Request is the head of a native request without a deadline.
func Request(service string, token uint64) mdp.Command {
	c := mdp.Command{Role: mdp.Client, Kind: mdp.Request, Service: []byte(service)}
	c.Head.Token, c.Head.Attempt, c.Head.ID[0] = token, 1, 0xfa
	binary.BigEndian.PutUint64(c.Head.ID[8:], token)
	return c
}

// receive reads one message, which must be of this kind.
func receive(t testing.TB, p *wire.Peer, kind mdp.Kind) *wire.Message {
	t.Helper()
	m, err := p.Recv(meshproc.Guard)
	if err != nil || m.Kind != kind {
		t.Fatalf("got %+v, %v; want %v", m, err, kind)
	}
	return m
}

// ended waits until the other side has ended a connection: how long that took since
// begun.
func ended(t testing.TB, p *wire.Peer, begun time.Time) time.Duration {
	t.Helper()
	_ = p.SetReadDeadline(begun.Add(meshproc.Guard))
	_, err := io.Copy(io.Discard, p)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		t.Fatalf("the connection did not end within %v", meshproc.Guard)
	}
	return time.Since(begun)
}

// HalfMessage begins a message and says no more: how long until the broker ends the
// connection.
func HalfMessage(t testing.TB, b *Broker) time.Duration {
	t.Helper()
	p := Peer(t, b.Requests)
	begun := time.Now()
	if _, err := p.Write([]byte{0, 100, 1, 2, 3}); err != nil { // 3 octets of 100
		t.Fatal(err)
	}
	return ended(t, p, begun)
}

// mostOctets is the largest message by default.
const mostOctets = 64 << 20

// AnnounceTooBig announces a message that is larger than permitted: how long until the
// broker ends the connection, and by how many octets its memory has grown.
func AnnounceTooBig(t testing.TB, b *Broker) (took time.Duration, grown int64) {
	t.Helper()
	p := Peer(t, b.Requests)
	ForgetPeak(t, b.PID())
	before := RSS(t, b.PID())
	begun := time.Now()
	if _, err := p.Write(binary.BigEndian.AppendUint64([]byte{2}, mostOctets+1)); err != nil {
		t.Fatal(err)
	}
	took = ended(t, p, begun)
	return took, max(Peak(t, b.PID())-before, 0)
}
