package actor

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/wire"
)

// step bounds one step of one connection in a crowd.
const step = time.Minute

// playSilent keeps Count connections open that say nothing, or half a greeting.
// Those that are thrown out come back, at most once in a while. (No goroutine per
// connection: the race detector allows 8,128.)
func playSilent(ctx context.Context) error {
	n := number(Count, 1)
	conns := make([]net.Conn, n)
	var opened atomic.Int64
	sit := func(i int) error {
		if c := conns[i]; c != nil {
			_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
			var octets [64]byte
			for err := error(nil); err == nil; {
				if _, err = c.Read(octets[:]); isTimeout(err) {
					return nil // still there
				}
			}
			_ = c.Close()
			conns[i] = nil
		}
		// From many addresses: those that were thrown out keep their ports for a minute.
		d := net.Dialer{Timeout: step, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%100))}}
		c, err := d.Dial("tcp", strings.TrimPrefix(brokers()[0], "tcp://"))
		if err != nil {
			return nil // refused: the next turn tries again
		}
		opened.Add(1)
		_, _ = c.Write(wire.Greeting()[:i%60])
		conns[i] = c
		return nil
	}
	for turn := 1; ctx.Err() == nil; turn++ {
		if err := inTurns(n, dialling, sit); err != nil {
			return err
		}
		tell("turn %d opened %d", turn, opened.Load())
		pause(ctx, time.Second)
	}
	for _, c := range conns {
		if c != nil {
			_ = c.Close()
		}
	}
	return nil
}

func isTimeout(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// portion is how many sessions are opened between two looks at the clock.
const portion = 500

// playLive keeps Count native client sessions. Each calls once at every order; in
// between they beat as idle clients do.
func playLive(ctx context.Context) error {
	var peers []*wire.Peer
	beats, again := time.NewTicker(12*time.Second), orders()
	defer beats.Stop()
	beat := func() error {
		return inTurns(len(peers), dialling, func(i int) error {
			return peers[i].Send(mdp.Command{Role: mdp.Client, Kind: mdp.Heartbeat})
		})
	}
	for count := number(Count, 1); len(peers) < count; {
		more := make([]*wire.Peer, min(portion, count-len(peers)))
		err := inTurns(len(more), dialling, func(i int) (err error) {
			if more[i], err = wire.Dial(brokers()[0], step); err != nil {
				return err
			}
			_, err = more[i].Hello("", fmt.Sprintf("live-%d", len(peers)+i), 0)
			return err
		})
		if err != nil {
			return err
		}
		peers = append(peers, more...)
		select {
		case <-beats.C:
			if err := beat(); err != nil {
				return err
			}
		default:
		}
	}
	tell("open %d", len(peers))
	for n := 1; ; {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case <-beats.C:
			err = beat()
		case <-again:
			if err = inTurns(len(peers), dialling, func(i int) error { return ask(peers[i], i) }); err == nil {
				tell("round %d answered %d", n, len(peers))
			}
			n++
		}
		if err != nil {
			return err
		}
	}
}

// ask makes one call over a connection.
func ask(p *wire.Peer, i int) error {
	mine := fmt.Sprintf("mine %d", i)
	request := mdp.Command{Role: mdp.Client, Kind: mdp.Request, Service: []byte(os.Getenv(Service))}
	request.Head.Token, request.Head.Attempt, request.Head.Remaining = uint64(i), 1, uint32(patience/time.Millisecond)
	request.Head.ID[0], request.Head.ID[12], request.Head.ID[13], request.Head.ID[14] = 1, byte(i>>16), byte(i>>8), byte(i)
	if err := p.Send(request, []byte("echo"), []byte(mine)); err != nil {
		return err
	}
	if err := p.Await(step); err != nil {
		return err
	}
	m, err := p.Recv(step)
	if err != nil {
		return err
	}
	if m.Kind != mdp.Final || m.Head.Token != uint64(i) || len(m.Frames) != 2 || string(m.Frames[1]) != mine {
		return fmt.Errorf("connection %d got %v %d %q", i, m.Kind, m.Head.Token, m.Frames)
	}
	return nil
}
