package zsock

import (
	"testing"
)

// pingPong answers until n messages came back.
type pingPong struct {
	left int
	done chan struct{}
}

func (p *pingPong) Opened(*Conn)                {}
func (p *pingPong) Closed(*Batch, *Conn, error) {}
func (p *pingPong) Message(b *Batch, c *Conn, m *Msg) {
	if p.left--; p.left == 0 {
		close(p.done)
	} else if p.left > 0 {
		_ = c.Send(b, nil, m.Body(0))
	}
}

// benchmarkEcho keeps inflight messages of size octets between one client and an
// echo server, over loopback.
func benchmarkEcho(b *testing.B, inflight, size int) {
	tr := transports()[0]
	l := listen(b, tr, Config{}, &echoServer{})
	p := &pingPong{left: b.N, done: make(chan struct{})}
	c := dial(b, tr, l, Config{}, p)
	body := NewBody([]byte("MDPC03............................echo"), make([]byte, size))
	b.SetBytes(int64(size))
	b.ReportAllocs()
	b.ResetTimer()
	var batch Batch
	for range min(inflight, b.N) {
		if err := c.Send(&batch, nil, body); err != nil {
			b.Fatal(err)
		}
	}
	batch.Flush()
	<-p.done
	b.StopTimer()
	body.Release()
}

type echoServer struct{}

func (*echoServer) Opened(*Conn)                {}
func (*echoServer) Closed(*Batch, *Conn, error) {}
func (*echoServer) Message(b *Batch, c *Conn, m *Msg) {
	_ = c.Send(b, nil, m.Body(0))
}

func BenchmarkPingPong(b *testing.B)      { benchmarkEcho(b, 1, 64) }
func BenchmarkPipelined128(b *testing.B)  { benchmarkEcho(b, 128, 64) }
func BenchmarkPipelined1024(b *testing.B) { benchmarkEcho(b, 1024, 64) }
func BenchmarkLarge64KiB(b *testing.B)    { benchmarkEcho(b, 4, 64<<10) }
func BenchmarkLarge1MiB(b *testing.B)     { benchmarkEcho(b, 2, 1<<20) }
