package zsock

import "testing"

// BenchmarkHandshake is one good handshake, connect to close, with so many silent
// connections attached.
func BenchmarkHandshake(b *testing.B) {
	for _, silent := range []struct {
		name  string
		count int
	}{{"alone", 0}, {"beside1000silent", 1000}} {
		b.Run(silent.name, func(b *testing.B) {
			tr := transports()[0]
			l := listen(b, tr, Config{HandshakeTimeout: patience}, &echoServer{})
			for range silent.count {
				connect(b, tr, l)
			}
			cfg := Config{Type: Dealer}
			b.ReportAllocs()
			b.ResetTimer()
			for range b.N {
				c, err := Dial(b.Context(), l.Endpoint(), cfg, &echoServer{})
				if err != nil {
					b.Fatal(err)
				}
				c.Close(nil)
			}
		})
	}
}
