package foreign

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Clients behind ROUTER/DEALER proxies: each adds a frame to the return envelope,
// and gets it back.
func TestClientsBehindProxies(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	near := p.proxy(t, b.endpoint)
	far := p.proxy(t, near)
	w := worker02.open(t, p, b, "echo")
	for _, endpoint := range []string{near, far} {
		var clients []*socket
		for i := range 3 { // several on one connection of the proxy: answers must not be mixed up
			clients = append(clients, p.openAt(t, endpoint, "REQ", "REQ_CORRELATE=1", "REQ_RELAXED=1"))
			clients[i].send(t, "MDPC01", "echo", fmt.Sprint(i))
		}
		for range clients {
			got := w.recv(t)
			w.answer(t, got[2], "answer to "+got[4])
		}
		for i, c := range clients {
			c.expect(t, "MDPC01", "echo", fmt.Sprint("answer to ", i))
		}
		c := p.openAt(t, endpoint, "DEALER")
		c.send(t, "", "MDPC02", "\x01", "echo", "x")
		address := w.request(t, "x")
		w.part(t, address, "part")
		w.answer(t, address, "y")
		c.expect(t, "", "MDPC02", "\x02", "echo", "part")
		c.expect(t, "", "MDPC02", "\x03", "echo", "y")
		c.send(t, "", "MDPC01", "mmi.service", "echo")
		c.expect(t, "", "MDPC01", "mmi.service", "200")
	}
}

// An envelope is given back unchanged up to its limits; beyond them the request is
// dropped, and nothing else is.
func TestEnvelopeLimits(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := worker01.open(t, p, b, "echo")
	client := p.open(t, b, "DEALER")
	long := strings.Repeat("\xff", 255)
	nine := []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"}
	for _, row := range []struct {
		envelope []string
		taken    bool
	}{
		{[]string{"\x00\x00\x00\x01"}, true},
		{[]string{""}, true},
		{[]string{"MDPC0", "", "x"}, true},
		{nine[:8], true},
		{slices.Repeat([]string{long}, 8), true},
		{nine, false},
		{[]string{long + "x"}, false},
	} {
		client.send(t, slices.Concat(row.envelope, []string{"", "MDPC01", "echo", "x"})...)
		if row.taken {
			w.answer(t, w.request(t, "x"), "y")
			client.expect(t, slices.Concat(row.envelope, []string{"", "MDPC01", "echo", "y"})...)
		}
		client.fence(t)
	}
	w.fence(t)
}
