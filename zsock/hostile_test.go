package zsock

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

// refusals are the strangers that must not get in: every one that is known to end,
// or stop, a process that runs the handshake unguarded, and more.
var refusals = map[string]struct {
	says   []byte
	why    error
	told   bool // an ERROR command says why
	hangUp bool // the stranger ends the connection after this
}{
	"garbage":                    {says: []byte("GET / HTTP/1.1\r\n\r\n"), why: ErrSignature},
	"ZMTP 1.0":                   {says: []byte{1, 0}, why: ErrSignature},
	"ZMTP 1.0, long":             {says: []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0}, why: ErrVersion},
	"ZMTP 2.0":                   {says: []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 1, 5}, why: ErrVersion},
	"ZMTP 2.1":                   {says: []byte{0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0x7f, 2, 5}, why: ErrVersion},
	"odd signature":              {says: append([]byte{0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0x0f}, greeting(0, "NULL")[10:]...), why: ErrSignature},
	"PLAIN":                      {says: greeting(0, "PLAIN"), why: ErrMechanism},
	"CURVE":                      {says: greeting(1, "CURVE"), why: ErrMechanism},
	"NULL and more":              {says: greeting(0, "NULL\x00X"), why: ErrMechanism},
	"no mechanism":               {says: greeting(0, ""), why: ErrMechanism},
	"half a greeting":            {says: greeting(0, "NULL")[:11], why: ErrPeerClosed, hangUp: true},
	"no READY":                   {says: greeting(0, "NULL"), why: ErrPeerClosed, hangUp: true},
	"message instead of READY":   {says: say(frame(0, "hello")), why: ErrMetadata, told: true},
	"MORE on READY":              {says: say([]byte{5, 0}), why: ErrMetadata, told: true},
	"PING instead of READY":      {says: say(commandFrame("PING", "\x00\x00")), why: ErrMetadata, told: true},
	"empty command":              {says: say([]byte{4, 0}), why: ErrMetadata, told: true},
	"name past the end":          {says: say(frame(4, "\x20READY")), why: ErrMetadata, told: true},
	"READY of 2 KiB + 1":         {says: say(announce(4, 2049)), why: ErrMetadata, told: true},
	"READY of 2^62":              {says: say(announce(4, 1<<62)), why: ErrMetadata, told: true},
	"READY of 2^64 - 1":          {says: say(announce(4, 1<<64-1)), why: ErrMetadata, told: true},
	"unknown Socket-Type":        {says: say(padded("NOSUCH")), why: ErrSocketType, told: true},
	"no Socket-Type":             {says: say(commandFrame("READY", property("X-Type", "DEALER"))), why: ErrSocketType, told: true},
	"no metadata":                {says: say(commandFrame("READY", "")), why: ErrSocketType, told: true},
	"property name past the end": {says: say(commandFrame("READY", "\xffSocket-Type")), why: ErrMetadata, told: true},
	"property without value":     {says: say(commandFrame("READY", "\x0bSocket-Type")), why: ErrMetadata, told: true},
	"value past the end":         {says: say(commandFrame("READY", "\x0bSocket-Type\x00\x00\x00\x07DEALER")), why: ErrMetadata, told: true},
	"value of 4 GiB":             {says: say(commandFrame("READY", "\x0bSocket-Type\xff\xff\xff\xffDEALER")), why: ErrMetadata, told: true},
	"nameless property":          {says: say(commandFrame("READY", property("", "x"))), why: ErrMetadata, told: true},
	"second property cut":        {says: say(commandFrame("READY", property("Socket-Type", "DEALER")+"\x08Ident")), why: ErrMetadata, told: true},
	"identity of 256":            {says: say(commandFrame("READY", property("Socket-Type", "DEALER")+property("Identity", strings.Repeat("i", 256)))), why: ErrIdentity, told: true},
	"identity begins with 00":    {says: say(commandFrame("READY", property("Socket-Type", "DEALER")+property("Identity", "\x00abcd"))), why: ErrIdentity, told: true},
	"peer reports an ERROR":      {says: say(commandFrame("ERROR", "\x04nope")), why: ErrPeerError},
}

// say is a greeting and what follows it.
func say(parts ...[]byte) []byte { return append(greeting(0, "NULL"), bytes.Join(parts, nil)...) }

// padded is a READY command that makes 92 octets with its greeting, or more.
func padded(socketType string) []byte { return ready(socketType) }

func TestRefusals(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		for name, r := range refusals {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				h := newRecorder()
				l := listen(t, tr, Config{HandshakeTimeout: patience}, h)
				p := &rawPeer{Conn: connect(t, tr, l), t: t}
				p.write(r.says)
				if r.hangUp {
					_ = p.Close()
				} else if rest := string(p.ended()); strings.Contains(rest, "\x05ERROR") != r.told {
					t.Errorf("answer %q, want an ERROR command: %v", rest[min(64, len(rest)):], r.told)
				}
				_ = p.Close()
				// A good peer gets in all the same.
				client := newRecorder()
				dial(t, tr, l, Config{}, client)
				receive(t, h.opened)
				waitFor(t, func() bool { return l.Counters().Handshaking == 0 })
				if got := l.Counters().Failed; got[r.why.(*reason).name] != 1 || len(got) != 1 {
					t.Errorf("failed handshakes %v, want one for %q", got, r.why.(*reason).name)
				}
			})
		}
	})
}

// waitFor yields until ok holds.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("what was waited for did not come about")
		}
	}
}

func TestAcceptedGreetings(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		later := greeting(7, "NULL")
		later[10] = 4
		padding := greeting(0, "NULL")
		copy(padding[1:9], "whatever")
		copy(padding[33:], "the filler is not looked at")
		padding[32] = 9 // nor is as-server, where nobody serves
		for name, says := range map[string][]byte{
			"3.0":                say(ready("DEALER")),
			"3.1":                append(greeting(1, "NULL"), ready("DEALER")...),
			"later major":        append(later, ready("DEALER")...),
			"padding":            append(padding, ready("DEALER")...),
			"READY in LONG form": say(longFrame(4, "\x05READY"+property("Socket-Type", "DEALER"))),
			"lower case":         say(commandFrame("READY", property("socket-type", "DEALER")+property("identity", "me"))),
			"upper case":         say(commandFrame("READY", property("SOCKET-TYPE", "DEALER")+property("IDENTITY", "me"))),
			"other properties":   say(commandFrame("READY", property("X-Hello", "")+property("Socket-Type", "DEALER")+property("Resource", "r")+property("Identity", ""))),
			"2 KiB of READY":     say(commandFrame("READY", property("Socket-Type", "DEALER")+property("X-Pad", strings.Repeat("x", 2000)))),
		} {
			h := echoing()
			l := listen(t, tr, Config{}, h)
			p := &rawPeer{Conn: connect(t, tr, l), t: t}
			p.write(says, frame(1, ""), frame(0, name)) // the first message right behind
			p.take(64)
			p.frame()
			p.want(frame(1, ""), frame(0, name))
			c := receive(t, h.opened)
			if id := string(c.Peer().Identity); strings.HasSuffix(name, "case") && id != "me" {
				t.Errorf("%s: identity %q", name, id)
			}
		}
	})
}

// violations end an open connection; nothing is delivered.
var violations = map[string]struct {
	says []byte
	why  error
}{
	"frame of 2^62":       {announce(0, 1<<62), ErrTooBig},
	"frame of 2^45":       {announce(0, 1<<45), ErrTooBig},
	"frame of 2^63":       {announce(0, 1<<63), ErrProtocol},
	"frame of 2^64 - 1":   {announce(0, 1<<64-1), ErrProtocol},
	"one octet too many":  {announce(0, 1001), ErrTooBig},
	"too many in frames":  {append(frame(1, strings.Repeat("x", 600)), announce(0, 401)...), ErrTooBig},
	"MORE without end":    {bytes.Repeat([]byte{1, 0}, 200), ErrTooManyFrames},
	"reserved flags":      {[]byte{0x08, 0}, ErrProtocol},
	"MORE on a command":   {[]byte{5, 0}, ErrProtocol},
	"nameless command":    {[]byte{4, 0}, ErrProtocol},
	"command name cut":    {frame(4, "\x09PING"), ErrProtocol},
	"command of 16 KiB+1": {announce(4, maxCommand+1), ErrTooBig},
	"PING without TTL":    {commandFrame("PING", "\x00"), ErrProtocol},
	"PING context of 17":  {commandFrame("PING", "\x00\x00"+strings.Repeat("c", 17)), ErrProtocol},
	"commands inside":     {append(frame(1, "x"), bytes.Repeat(commandFrame("X", ""), maxInside+1)...), ErrProtocol},
	"ERROR":               {commandFrame("ERROR", "\x03bad"), ErrPeerError},
}

func TestViolations(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		for name, v := range violations {
			h := newRecorder()
			l := listen(t, tr, Config{MaxMessage: 1000, MaxFrames: 100}, h)
			p := open(t, tr, l, "DEALER", 0)
			p.write(frame(0, "good"), v.says)
			if err := receive(t, h.closed); !errors.Is(err, v.why) {
				t.Errorf("%s: closed for %q, want %q", name, err, v.why)
			}
			p.ended()
			if got := receive(t, h.messages); got.frames[0] != "good" || len(h.messages) != 0 {
				t.Errorf("%s: delivered %q and %d more", name, got.frames, len(h.messages))
			}
		}
	})
}

// refuser is a recorder that is told which message was beyond a limit.
type refuser struct {
	*recorder
	refused chan string
}

func (r *refuser) Refused(_ *Conn, first []byte) { r.refused <- string(first) }

// TestRefusedMessageIsNamed has a handler told how the message began that costs the
// connection, if it began.
func TestRefusedMessageIsNamed(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		big := strings.Repeat("x", 600)
		for name, v := range map[string]struct {
			says  []byte
			first []string
		}{
			"announced": {append(frame(1, "head"), announce(0, 997)...), []string{"head"}},
			"in sum":    {append(append(frame(1, "head"), frame(1, big)...), announce(0, 397)...), []string{"head"}},
			"in frames": {append(frame(1, "head"), bytes.Repeat([]byte{1, 0}, 100)...), []string{"head"}},
			"alone":     {announce(0, 1001), nil},
			"broken":    {append(frame(1, "head"), 8, 0), nil},
		} {
			h := &refuser{newRecorder(), make(chan string, 10)}
			l := listen(t, tr, Config{MaxMessage: 1000, MaxFrames: 100}, h)
			p := open(t, tr, l, "DEALER", 0)
			p.write(frame(0, "good"), v.says)
			err := receive(t, h.closed)
			if len(h.refused) != len(v.first) || len(v.first) > 0 && <-h.refused != v.first[0] {
				t.Errorf("%s: closed for %v, not told of %q", name, err, v.first)
			}
		}
	})
}

// TestLimitsAreInclusive sends what is just permitted.
func TestLimitsAreInclusive(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{MaxMessage: 1000, MaxFrames: 100}, echoing())
		p := open(t, tr, l, "DEALER", 0)
		most := append(frame(1, strings.Repeat("x", 600)), frame(0, strings.Repeat("y", 400))...)
		p.write(most)
		p.want(most)
		frames := append(bytes.Repeat([]byte{1, 0}, 99), 0, 0)
		p.write(frames)
		p.want(frames)
	})
}

// TestAnnouncementsAllocateNothing has peers announce 1 GiB, where that is
// permitted, and send a little of it: each may cost some buffers, of which pools keep
// fewer or none under the race detector.
func TestAnnouncementsAllocateNothing(t *testing.T) {
	for _, tr := range transports() {
		h := newRecorder()
		l := listen(t, tr, Config{MaxMessage: 2 << 30}, h)
		var peers []*rawPeer
		for range 16 {
			peers = append(peers, open(t, tr, l, "DEALER", 0))
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for _, p := range peers {
			p.write(announce(0, 1<<30), make([]byte, 100))
		}
		for _, p := range peers {
			_ = p.Close()
		}
		for range peers {
			if err := receive(t, h.closed); !errors.Is(err, ErrPeerClosed) {
				t.Error(err)
			}
		}
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 16*(1<<20) {
			t.Errorf("%s: 16 announcements of 1 GiB allocated %d octets", tr.name, took)
		}
	}
}

// TestGrowth receives a large message and asserts that what is allocated follows
// what came.
func TestGrowth(t *testing.T) {
	for _, tr := range transports() {
		h := newRecorder()
		size := 0
		done := make(chan int)
		h.then = func(_ *Batch, _ *Conn, m *Msg) { size = m.Size(); done <- len(m.slab.b) }
		l := listen(t, tr, Config{}, h)
		p := open(t, tr, l, "DEALER", 0)
		const n = 20 << 20
		go func() { _, _ = p.Write(longFrame(0, string(make([]byte, n)))) }()
		if room := receive(t, done); size != n || room > n+n/4 {
			t.Errorf("%s: %d octets arrived in a buffer of %d", tr.name, size, room)
		}
	}
}

// TestByteByByte feeds a connection single octets; framing must not depend on how
// the network cuts.
func TestByteByByte(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{}, echoing())
		p := &rawPeer{Conn: connect(t, tr, l), t: t}
		message := append(frame(1, ""), frame(1, strings.Repeat("a", 300))...)
		message = append(message, frame(0, strings.Repeat("b", bigFrame+10))...)
		drip := func(all []byte) {
			for i := range all {
				p.write(all[i : i+1])
			}
		}
		drip(say(ready("DEALER"), message))
		p.take(64)
		p.frame()
		p.want(message)
		drip(commandFrame("PING", "\x00\x10ctx"))
		p.want(commandFrame("PONG", "ctx"))
		drip(message)
		p.want(message)
	})
}

func TestSilentClientsBlockNobody(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		l := listen(t, tr, Config{HandshakeTimeout: patience}, echoing())
		for i := range 100 {
			p := &rawPeer{Conn: connect(t, tr, l), t: t}
			p.write(greeting(0, "NULL")[:i%64])
		}
		client := newRecorder()
		c := dial(t, tr, l, Config{}, client)
		send(t, c, "hello")
		receive(t, client.messages)
	})
}

func TestStalledReaderBlocksNobody(t *testing.T) {
	overAll(t, func(t *testing.T, tr transport) {
		h := echoing()
		full := make(chan struct{})
		h.then = func(b *Batch, c *Conn, m *Msg) {
			if err := c.Send(b, nil, m.Body(0)); errors.Is(err, ErrHighWater) {
				select {
				case <-full:
				default:
					close(full)
				}
			}
		}
		l := listen(t, tr, Config{}, h)
		stalled := open(t, tr, l, "DEALER", 0)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			block := bytes.Repeat(frame(0, strings.Repeat("x", 60_000)), 10)
			for ctx.Err() == nil {
				if _, err := stalled.Write(block); err != nil {
					return
				}
			}
		}()
		receive(t, full) // its queue is full, and it does not read
		client := newRecorder()
		c := dial(t, tr, l, Config{}, client)
		for range 100 {
			send(t, c, "hello", strings.Repeat("y", 20_000))
			receive(t, client.messages)
		}
		_ = stalled.Close()
	})
}
