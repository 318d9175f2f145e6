package client_test

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// lines is a log that is counted.
type lines struct {
	mu sync.Mutex
	bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Buffer.Write(p)
}

func (l *lines) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.String(), text)
}

// The end of a connection is told once.
func TestEndIsLoggedOnce(t *testing.T) {
	var log lines
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		const ends = 30
		for range ends {
			done := m.do(t.Context(), client.Call{Service: "echo", Timeout: time.Hour})
			m.request(0).Answer(mdp.Final, []byte("here"))
			(<-done).mustAnswer(t, "here")
			m.brokers[0].Stop()
			synctest.Wait()
			m.start(0)
		}
		if n := log.count("connection to broker ended"); n != ends {
			t.Errorf("%d lines about the end of %d connections", n, ends)
		}
	}, func(c *client.Config) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: &log}) })
}

// stuck is a log that stands still at the line with this text.
type stuck struct {
	text    string
	release chan struct{}
}

func (l *stuck) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(l.text)) {
		<-l.release
	}
	return len(p), nil
}

// The reader of connections does not log: a log may stand still.
func TestReaderDoesNotWaitForTheLog(t *testing.T) {
	log := &stuck{text: "welcomed"}
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		log.release = make(chan struct{})
		defer close(log.release)
		done := m.do(t.Context(), echoCall)
		m.request(0).Answer(mdp.Final, []byte("here"))
		(<-done).mustAnswer(t, "here")
	}, func(c *client.Config) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: log, Level: hclog.Debug}) })
}
