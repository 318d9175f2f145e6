package ingest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/services/ingest/record"
)

const (
	// maxRefusing bounds the goroutines that tell clients there is no room; beyond
	// it a connection is closed without a word.
	maxRefusing = 64
	// acceptPause is the first and acceptPauseMax the longest pause after a failed
	// accept, such as for want of file descriptors.
	acceptPause    = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// accept takes connections until the listener is closed. ctx ends pauses only;
// connections live until work ends or they are done.
func (s *Server) accept(ctx, work context.Context, conns *sync.WaitGroup) error {
	pause := acceptPause
	for {
		nc, err := s.listener.Accept()
		if err == nil {
			pause = acceptPause
			s.admit(work, nc, conns)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("ingest: accept: %w", err)
		}
		s.counts.add(countAcceptFailed)
		s.log.Warn("accept failed", "error", err, "pause", pause)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, acceptPauseMax)
	}
}

// admit starts the two goroutines of a connection, or refuses it.
func (s *Server) admit(work context.Context, nc net.Conn, conns *sync.WaitGroup) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) >= s.cfg.MaxConnections {
		s.counts.add(countConnRefused)
		if s.refusing >= maxRefusing {
			_ = nc.Close()
			return
		}
		s.refusing++
		conns.Go(func() {
			s.refuse(nc)
			s.mu.Lock()
			s.refusing--
			s.mu.Unlock()
		})
		return
	}
	s.counts.add(countConnAccepted)
	ctx, lost := context.WithCancel(work)
	c := newConn(s, nc, lost)
	s.conns[c] = struct{}{}
	s.readers.Go(func() { c.read(ctx) })
	conns.Go(func() {
		c.write(ctx)
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	})
}

// refuse says why and closes.
func (s *Server) refuse(nc net.Conn) {
	text := fmt.Sprintf("too many connections (%d); close one or try again later", s.cfg.MaxConnections)
	_ = nc.SetWriteDeadline(time.Now().Add(lingerTimeout))
	if _, err := nc.Write(record.Answer{Error: text, Closing: true}.Append(nil)); err == nil {
		linger(nc)
	}
	_ = nc.Close()
}

const (
	lingerTimeout = time.Second
	lingerOctets  = 1 << 20
)

// linger ends our direction and then reads for a moment what the client still
// sends. Closing with unread octets would make the kernel reset the connection,
// and a reset can overtake the last answers.
func linger(nc net.Conn) {
	half, ok := nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = nc.SetReadDeadline(time.Now().Add(lingerTimeout))
	var scrap [4096]byte
	for total := 0; total < lingerOctets; {
		n, err := nc.Read(scrap[:])
		if total += n; err != nil {
			return
		}
	}
}
