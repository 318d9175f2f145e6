package mdp

import (
	"testing"

	"pgregory.net/rapid"
)

// drawCommand draws any command that its dialect can say, and the side that reads it.
func drawCommand(t *rapid.T) (Command, Side) {
	if rapid.Bool().Draw(t, "native") {
		return drawNative(t), AtBroker
	}
	if rapid.Bool().Draw(t, "worker") {
		return drawWorker(t), Side(rapid.IntRange(0, 1).Draw(t, "side"))
	}
	return drawClient(t)
}

func drawName(t *rapid.T) []byte {
	return rapid.SliceOfN(rapid.Byte(), 1, MaxService).Draw(t, "service")
}

func drawNative(t *rapid.T) Command {
	c := Command{Dialect: Native,
		Role: rapid.SampledFrom([]Role{Client, Worker, Peer}).Draw(t, "role"),
		Head: Head{
			Flags:     rapid.Byte().Draw(t, "flags") &^ FlagMap,
			Token:     rapid.Uint64().Draw(t, "token"),
			Remaining: rapid.Uint32().Draw(t, "remaining"),
			Attempt:   rapid.Uint16().Draw(t, "attempt"),
			Status:    rapid.Uint16().Draw(t, "status"),
			Hops:      rapid.Byte().Draw(t, "hops"),
		}}
	copy(c.Head.ID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
	last := Bye
	if c.Role == Peer {
		last = Interest
	}
	c.Kind = Kind(rapid.IntRange(1, int(last)).Draw(t, "kind"))
	if needsService(c.Role, c.Kind) || rapid.Bool().Draw(t, "named") {
		c.Service = drawName(t)
	}
	if hasLoad(c.Role, c.Kind) {
		c.Head.Load = drawLoad(t)
		c.Head.Load.ElapsedMs = rapid.Uint32().Draw(t, "elapsed")
		c.Head.Load.WaitedUs = rapid.Uint32().Draw(t, "waited")
	}
	if rapid.Bool().Draw(t, "mapped") {
		c.Map = rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "map")
		c.Head.Flags |= FlagMap
	}
	return c
}

func drawLoad(t *rapid.T) Load {
	v := rapid.SliceOfN(rapid.Uint32(), 6, 6).Draw(t, "load")
	return Load{Seen: v[0], Idle: v[1], Queue: v[2], Via: v[3], MeanUs: v[4], Workers: v[5]}
}

// drawDelimiter draws a delimiter and a return envelope. Its frames cannot be taken
// for a header: no peer is named like one.
func drawDelimiter(t *rapid.T, c *Command, always bool) {
	c.Delimited = always || rapid.Bool().Draw(t, "delimited")
	if c.Delimited {
		frame := rapid.SliceOfN(rapid.ByteRange('a', 'z'), 0, MaxEnvelopeSize)
		c.Envelope = rapid.SliceOfN(frame, 0, MaxEnvelope).Draw(t, "envelope")
	}
}

func drawWorker(t *rapid.T) Command {
	c := Command{Role: Worker, Dialect: rapid.SampledFrom([]Dialect{V01, V02}).Draw(t, "dialect")}
	drawDelimiter(t, &c, false)
	kinds := []Kind{Ready, Request, Final, Heartbeat, Disconnect}
	if c.Dialect == V02 {
		kinds = append(kinds, Partial)
	}
	c.Kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	switch c.Kind {
	case Ready:
		c.Service = drawName(t)
	case Request, Partial, Final:
		c.Address = rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "address")
	}
	return c
}

func drawClient(t *rapid.T) (Command, Side) {
	c := Command{Role: Client, Dialect: rapid.SampledFrom([]Dialect{V01, V02, Majortomo, Bare}).Draw(t, "dialect")}
	drawDelimiter(t, &c, c.Dialect == Majortomo || c.Dialect == Bare)
	kinds := []Kind{Request, Final}
	if c.Dialect == Majortomo || (c.Dialect == V02) {
		kinds = append(kinds, Partial)
	}
	c.Kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	if c.Kind == Final && c.Dialect == V02 && c.Delimited {
		c.Kind = Partial // to an endpoint, a delimited final looks like majortomo's partial
	}
	if c.Kind == Request || c.Dialect != Majortomo {
		c.Service = drawName(t)
	}
	if c.Dialect == Bare && len(c.Service) == 1 {
		c.Service = []byte("at least two octets")
	}
	if c.Kind == Request {
		return c, AtBroker
	}
	return c, AtEndpoint
}

func TestAppendThenDecode(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want, at := drawCommand(t)
		wire := Append(nil, make([]byte, MaxHead), &want)
		want.Body = len(wire)
		body := rapid.SliceOfN(rapid.SliceOf(rapid.Byte()), 0, 3).Draw(t, "body")
		wire = append(wire, body...)
		got := Command{Address: []byte("left over"), Head: Head{Load: Load{Idle: 1}}}
		if err := Decode(wire, at, &got); err != nil {
			t.Fatalf("%v: %s", err, show(wire))
		}
		if got.Role != want.Role || got.Kind != want.Kind || got.Dialect != want.Dialect || got.Delimited != want.Delimited || got.Body != want.Body || got.Head != want.Head {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
		if string(got.Service) != string(want.Service) || string(got.Address) != string(want.Address) ||
			string(got.Map) != string(want.Map) || !equalFrames(got.Envelope, want.Envelope) {
			t.Errorf("got %+v\nwant %+v", got, want)
		}
	})
}

func TestStateRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		want := StateEntry{Service: drawName(t), Need: rapid.Bool().Draw(t, "need"), Once: rapid.Bool().Draw(t, "once"), Behind: rapid.Bool().Draw(t, "behind"), Load: drawLoad(t)}
		tail := rapid.SliceOf(rapid.Byte()).Draw(t, "tail")
		var got StateEntry
		rest, err := NextState(append(AppendState(nil, &want), tail...), &got)
		if err != nil || string(rest) != string(tail) {
			t.Fatalf("rest %x, error %v", rest, err)
		}
		if string(got.Service) != string(want.Service) || got.Need != want.Need || got.Once != want.Once || got.Behind != want.Behind || got.Load != want.Load {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func TestAddressRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		token := rapid.Uint64().Draw(t, "token")
		if got, ok := ParseAddress(AppendAddress(nil, token)); !ok || got != token {
			t.Errorf("%#x came back as %#x, %v", token, got, ok)
		}
	})
}
