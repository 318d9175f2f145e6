package foreign

import (
	"bytes"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
)

// What kills brokers that assert, and what no protocol explains. Each message comes
// on a connection of its own, from a client or a worker; the broker serves on, and
// that very connection, too.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	long := strings.Repeat("x", 256)
	for _, m := range [][]string{
		{""}, {"", ""}, {"x"}, {"", "x"}, {"\x00"}, {"", "MDP"}, {long}, {"", long, ""},
		{"MDPC01"}, {"", "MDPC01"}, {"", "MDPC01", ""}, {"", "MDPC01", "", "x"}, {"", "MDPC01", long, "x"},
		{"MDPC02"}, {"MDPC02", ""}, {"MDPC02", "\x01"}, {"MDPC02", "\x01", ""}, {"MDPC02", "\x01", long, "x"},
		{"MDPC02", "\x02", "echo", "x"}, {"MDPC02", "\x03", "echo", "x"}, {"MDPC02", "\x00", "echo"}, {"MDPC02", "\xff", "echo"}, {"MDPC02", "echo", "x"},
		{"", "MDPC02"}, {"", "MDPC02", "\x02"}, {"", "MDPC02", "\x02", ""}, {"", "MDPC02", ""},
		{"MDPC03"}, {"MDPW03"}, {"MDPB03"}, {strings.Repeat("MDPC03", 7)}, {"MDPC03" + strings.Repeat("\xff", 36)}, {"MDPB03" + strings.Repeat("\xff", 300)},
		{"MDPC04", "\x01", "echo", "x"},
		{"", "MDPW01"}, {"MDPW02"}, {"", "MDPW01", ""}, {"", "MDPW01", "\x00"}, {"", "MDPW01", "\x06"}, {"MDPW02", "\x07"}, {"", "MDPW01", "1", "echo"},
		{"", "MDPW01", "\x03"}, {"MDPW02", "\x03"}, {"MDPW02", "\x04"},
		{"C", "1", "echo", "x"}, {"\xaa\xa4\x01\x06MDPC02\x04echo"}, {"GET / HTTP/1.1\r\n\r\n"},
		slices.Repeat([]string{""}, 100), slices.Repeat([]string{"x"}, 100), slices.Repeat([]string{"", "MDPC01"}, 20),
	} {
		s := p.open(t, b, "DEALER")
		s.send(t, m...)
		s.fence(t)
		s.close(t)
	}
	// Who asks in the native protocol is told.
	s := p.open(t, b, "DEALER")
	s.send(t, "MDPC03\x01\x08"+strings.Repeat("\x00", 34)) // a HELLO says that a map follows, and none does
	s.expect(t, "MDPC03\x02\x08"+strings.Repeat("\x00", 30)+"\x01\x90\x00\x00", "\x81\xa4text\xd9.mdp: map frame missing, malformed or too large")
	s.close(t)
	s = p.open(t, b, "DEALER")
	s.send(t, "MDPC03\x03"+strings.Repeat("\x00", 35))
	s.expect(t, "MDPC03\x05\x08"+strings.Repeat("\x00", 30)+"\x01\x90\x00\x00", "\x81\xa4text\xd9+mdp: service name must have 1 to 255 octets")
	s.fence(t)
	s.close(t)
	// Within a session, it stays.
	for _, form := range foreignAnswerers() {
		w := form.open(t, p, b, form.name)
		for _, m := range [][]string{{""}, {"x"}, form.final, form.heartbeat[:len(form.heartbeat)-1], {"", "MDPW01", "\x09"}} {
			w.send(t, m...)
		}
		client := p.open(t, b, "REQ")
		client.send(t, "MDPC01", form.name, "x")
		w.answer(t, w.request(t, "x"), "y")
		client.expect(t, "MDPC01", form.name, "y")
	}
	b.alive(t)
}

// ZMQ_PROBE_ROUTER sends an empty message on connecting.
func TestProbeRouter(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := &worker{p.open(t, b, "DEALER", "PROBE_ROUTER=1"), &worker01}
	w.send(t, worker01.ready("echo")...)
	for _, kind := range []string{"REQ", "DEALER"} {
		client := p.open(t, b, kind, "PROBE_ROUTER=1")
		frames := func(last string) []string {
			if kind == "DEALER" {
				return []string{"", "MDPC01", "echo", last}
			}
			return []string{"MDPC01", "echo", last}
		}
		client.send(t, frames("x")...)
		w.answer(t, w.request(t, "x"), "y")
		client.expect(t, frames("y")...)
	}
	// A ROUTER that probes may be a client, too.
	router := p.open(t, b, "ROUTER", "PROBE_ROUTER=1", "CONNECT_ROUTING_ID=broker")
	router.send(t, "broker", "", "MDPC01", "echo", "x")
	w.answer(t, w.request(t, "x"), "y")
	router.expect(t, "broker", "", "MDPC01", "echo", "y")
}

// greeting is ZMTP 3.0, NULL, as a client.
func greeting() []byte {
	g := make([]byte, 64)
	g[0], g[9], g[10] = 0xff, 0x7f, 3
	copy(g[12:], "NULL")
	return g
}

// dealerReady is the READY command of a DEALER.
func dealerReady() []byte {
	body := "\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"
	return append([]byte{0x04, byte(len(body))}, body...)
}

// Whatever comes over TCP instead of ZMTP ends that connection, and no other.
func TestRawGarbage(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	client := p.open(t, b, "DEALER")
	client.fence(t)
	talk := slices.Concat(greeting(), dealerReady())
	for name, octets := range map[string][]byte{
		"text":                        []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"zeros":                       make([]byte, 1000),
		"ff":                          bytes.Repeat([]byte{0xff}, 1000),
		"TLS hello":                   []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		"ZMTP 1.0":                    []byte("\x01\x00\x07\x00MDPC01"),
		"ZMTP 2.0":                    []byte("\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x01\x05\x00\x00"),
		"another mechanism":           bytes.Replace(greeting(), []byte("NULL"), []byte("CURVE"), 1)[:64],
		"message before READY":        slices.Concat(greeting(), []byte("\x00\x06MDPC01")),
		"READY cut":                   slices.Concat(greeting(), dealerReady()[:5], []byte("\xff\xff\xff\xff\xff\xff\xff")),
		"wrong socket type":           slices.Concat(greeting(), bytes.Replace(dealerReady(), []byte("DEALER"), []byte("DEALXX"), 1)),
		"frame of 2^62 octets":        slices.Concat(talk, []byte("\x02\x40\x00\x00\x00\x00\x00\x00\x00")),
		"frame of 2^63 octets":        slices.Concat(talk, []byte("\x02\x80\x00\x00\x00\x00\x00\x00\x00")),
		"frame of 2^40 octets":        slices.Concat(talk, []byte("\x02\x00\x00\x01\x00\x00\x00\x00\x00")),
		"command with MORE":           slices.Concat(talk, []byte("\x05\x05\x04PING")),
		"reserved flags":              slices.Concat(talk, []byte("\xf8\x01x")),
		"a hundred thousand frames":   slices.Concat(talk, bytes.Repeat([]byte("\x01\x00"), 100_000)),
		"metadata longer than itself": slices.Concat(greeting(), []byte("\x04\x16\x05READY\x0bSocket-Type\xff\xff\xff\xff")),
	} {
		t.Run(name, func(t *testing.T) {
			c := dialRaw(t, b)
			_, _ = c.Write(octets) // the broker may have closed it before the end
			halfClose(c)
			if n, err := io.Copy(io.Discard, c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("not closed: %d octets, then %v", n, err)
			}
		})
	}
	client.fence(t)
	b.alive(t)
}

func halfClose(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}
