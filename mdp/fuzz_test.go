package mdp

import (
	"bytes"
	"testing"
)

// pack and unpack make one octet string of a message for the fuzzer: each frame
// behind two octets of length.
func pack(frames [][]byte) []byte {
	var p []byte
	for _, f := range frames {
		p = append(append(p, byte(len(f)>>8), byte(len(f))), f...)
	}
	return p
}

func unpack(p []byte) [][]byte {
	var frames [][]byte
	for len(p) >= 2 {
		n := min(int(p[0])<<8|int(p[1]), len(p)-2)
		frames = append(frames, p[2:2+n])
		p = p[2+n:]
	}
	return frames
}

// FuzzDecode: no message whatever panics; what is understood lies within the
// frames and the limits, and written again it is understood the same way.
func FuzzDecode(f *testing.F) {
	for _, form := range forms {
		f.Add(pack(form.wire), form.at == AtEndpoint)
	}
	for _, g := range golden {
		f.Add(pack([][]byte{unhex(f, g.head), {0x80}, []byte("body")}), false)
	}
	f.Add(pack(frames("E")), false)
	f.Add([]byte{0xff, 0xff}, true)
	f.Fuzz(func(t *testing.T, packed []byte, endpoint bool) {
		at := AtBroker
		if endpoint {
			at = AtEndpoint
		}
		wire := unpack(packed)
		var c Command
		if Decode(wire, at, &c) != nil {
			return
		}
		if c.Body < 1 || c.Body > len(wire) {
			t.Fatalf("body at %d of %d frames", c.Body, len(wire))
		}
		if len(c.Service) > MaxService || len(c.Envelope) > MaxEnvelope || len(c.Map) > MaxMap {
			t.Fatalf("over a limit: %+v", c)
		}
		if c.Role == 0 || c.Kind == 0 || c.Dialect == 0 || c.Kind.String() == "unknown" {
			t.Fatalf("not said what it is: %+v", c)
		}
		again := Append(nil, make([]byte, MaxHead), &c)
		written := c
		written.Body = len(again)
		var got Command
		if err := Decode(append(again, wire[c.Body:]...), at, &got); err != nil {
			t.Fatalf("written again: %v, %s", err, show(again))
		}
		compare(t, &got, &written)
	})
}

// FuzzDecodeMap: no map frame panics, and none that is refused changes how the
// session goes on: the error says what it is about.
func FuzzDecodeMap(f *testing.F) {
	f.Add(EncodeMap(&HelloMap{Instance: "abc", Tags: []string{"x"}, Reads: true, PID: 1}))
	f.Add(EncodeMap(&WelcomeMap{Revision: 1, Name: "n", Endpoints: []string{"tcp://h:1"}}))
	f.Add(EncodeMap(&ErrorMap{Text: "broken", RetryMs: 1}))
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Add([]byte{0x81, 0xa4, 't', 'a', 'g', 's', 0xdd, 0x7f, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, p []byte) {
		var hello HelloMap
		if DecodeMap(p, &hello) == nil {
			var again HelloMap
			if err := DecodeMap(EncodeMap(&hello), &again); err != nil && len(p) < MaxMap/2 {
				t.Fatalf("%+v written again: %v", hello, err)
			}
		}
		_ = DecodeMap(p, new(WelcomeMap))
		_ = DecodeMap(p, new(ErrorMap))
		if err := AnswerError(&Command{Head: Head{Status: uint16(Busy)}, Map: p}); err == nil {
			t.Fatal("a status without an error")
		}
	})
}

// FuzzNextState: no STATE body panics or is read beyond its end, and every entry
// taken costs octets, so that a loop over them ends.
func FuzzNextState(f *testing.F) {
	one := AppendState(nil, &StateEntry{Service: []byte("echo"), Need: true, Load: Load{Seen: 1, Idle: 2}})
	f.Add(one)
	f.Add(append(bytes.Clone(one), one[:9]...))
	f.Add([]byte{0})
	f.Add(bytes.Repeat([]byte{0xff}, 300))
	f.Fuzz(func(t *testing.T, p []byte) {
		for len(p) > 0 {
			var e StateEntry
			rest, err := NextState(p, &e)
			if err != nil {
				return
			}
			if len(e.Service) == 0 || len(rest) >= len(p) {
				t.Fatalf("entry %+v, %d octets left of %d", e, len(rest), len(p))
			}
			p = rest
		}
	})
}
