package mdp

import "testing"

// hot are the messages of the request path, as a broker reads them.
func hot() map[string][][]byte {
	native := func(c Command) [][]byte {
		c.Dialect = Native
		return append(Append(nil, make([]byte, MaxHead), &c), []byte("body"))
	}
	echo := []byte("echo")
	return map[string][][]byte{
		"native-request":   native(Command{Role: Client, Kind: Request, Service: echo, Head: Head{Token: 1, Attempt: 1}}),
		"native-final":     native(Command{Role: Worker, Kind: Final, Head: Head{Token: 1, Attempt: 1}}),
		"native-heartbeat": native(Command{Role: Worker, Kind: Heartbeat}),
		"peer-request":     native(Command{Role: Peer, Kind: Request, Service: echo, Head: Head{Token: 1, Load: Load{Idle: 2}}}),
		"0.1-request":      frames("E", "MDPC01", "echo", "body"),
		"0.1-final":        frames("E", "MDPW01", "\x03", address, "E", "body"),
		"0.2-request":      frames("MDPC02", "\x01", "echo", "body"),
		"0.2-final":        frames("MDPW02", "\x04", address, "E", "body"),
		"enveloped":        frames("\x00\x00\x00\x01", "E", "MDPC01", "echo", "body"),
		"garbage":          frames("E", "garbage"),
	}
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	scratch, dst := make([]byte, MaxHead), make([][]byte, 0, 16)
	var c Command
	for name, wire := range hot() {
		if n := testing.AllocsPerRun(100, func() { _ = Decode(wire, AtBroker, &c) }); n != 0 {
			t.Errorf("Decode %s: %v allocations", name, n)
		}
		if c.Kind == 0 {
			continue
		}
		if n := testing.AllocsPerRun(100, func() { dst = Append(dst[:0], scratch, &c) }); n != 0 {
			t.Errorf("Append %s: %v allocations", name, n)
		}
	}
	to := make([]byte, 0, 16)
	if n := testing.AllocsPerRun(100, func() { to = AppendAddress(to[:0], 42); _, _ = ParseAddress(to) }); n != 0 {
		t.Errorf("addresses: %v allocations", n)
	}
	state := AppendState(nil, &StateEntry{Service: []byte("echo")})
	var e StateEntry
	if n := testing.AllocsPerRun(100, func() { state = AppendState(state[:0], &e) }); n != 0 {
		t.Errorf("AppendState: %v allocations", n)
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, wire := range hot() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var c Command
			for b.Loop() {
				_ = Decode(wire, AtBroker, &c)
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	scratch, dst := make([]byte, MaxHead), make([][]byte, 0, 16)
	for name, wire := range hot() {
		var c Command
		if Decode(wire, AtBroker, &c) != nil {
			continue
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = Append(dst[:0], scratch, &c)
			}
		})
	}
}
