package worker_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"testing"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/worker"
	"github.com/mdmesh/mdmesh/zsock"
)

// lateReader is a broker that reads nothing behind HELLO before it is told to.
type lateReader struct {
	conn   chan *zsock.Conn
	read   chan struct{}
	finals chan bool // whether its body was that of its request
}

func (*lateReader) Opened(*zsock.Conn)                      {}
func (*lateReader) Closed(*zsock.Batch, *zsock.Conn, error) {}

func (l *lateReader) Message(b *zsock.Batch, c *zsock.Conn, m *zsock.Msg) {
	var cmd mdp.Command
	if err := mdp.Decode(m.Frames(), mdp.AtBroker, &cmd); err != nil {
		return
	}
	switch cmd.Kind {
	case mdp.Hello:
		out := mdp.Command{Role: mdp.Worker, Kind: mdp.Welcome, Dialect: mdp.Native, Map: mdp.EncodeMap(welcome)}
		_ = c.Send(b, mdp.Append(nil, make([]byte, mdp.MaxHead), &out), zsock.Body{})
		b.FlushNow()
		l.conn <- c
		<-l.read
	case mdp.Final:
		body := m.Frames()[cmd.Body:]
		l.finals <- len(body) == 1 && bytes.Equal(body[0], bodyOf(cmd.Head.Token))
	}
}

// bodyOf is a large body that tells its request.
func bodyOf(token uint64) []byte {
	return bytes.Repeat(binary.BigEndian.AppendUint64(nil, token), 64<<7)
}

// An answer that is the request's own memory stays what it is until it is written,
// however late that is, and though that memory is used for other requests meanwhile.
func TestLateReaderGetsWhatWasAnswered(t *testing.T) {
	const waves, n = 4, 60 // 15 MiB: more than the sockets take, and the queue behind
	l := &lateReader{conn: make(chan *zsock.Conn, 1), read: make(chan struct{}), finals: make(chan bool, waves*n)}
	listener, err := zsock.Listen("tcp://127.0.0.1:0", zsock.Config{Type: zsock.Router, HighWaterBytes: 64 << 20}, l)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- listener.Run(ctx) }()
	returned := make(chan struct{}, waves*n)
	w, err := worker.New(worker.Config{
		Brokers: []string{listener.Endpoint()}, Service: "echo", Concurrency: waves * n,
		Handler: func(_ context.Context, r *worker.Request) ([][]byte, error) {
			returned <- struct{}{}
			return r.Body, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() { ended <- w.Run(ctx) }()
	conn := <-l.conn
	for wave := range waves {
		var b zsock.Batch
		for i := range n {
			token := uint64(wave*n + i)
			cmd := mdp.Command{Role: mdp.Worker, Kind: mdp.Request, Dialect: mdp.Native, Service: []byte("echo")}
			cmd.Head.Token, cmd.Head.Attempt = token, 1
			body := zsock.NewBody(bodyOf(token))
			if err := conn.Send(&b, mdp.Append(nil, make([]byte, mdp.MaxHead), &cmd), body); err != nil {
				t.Error(err)
			}
			body.Release()
		}
		b.Flush()
		for range n {
			<-returned
		}
	}
	close(l.read)
	for range waves * n {
		if !<-l.finals {
			t.Error("an answer is not what the handler returned")
		}
	}
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
