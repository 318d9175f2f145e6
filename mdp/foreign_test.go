package mdp

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// frames writes a message as tests like to read it: "E" is an empty frame, "\x01"
// and the like are themselves.
func frames(fs ...string) [][]byte {
	out := make([][]byte, 0, len(fs))
	for _, f := range fs {
		if f == "E" {
			f = ""
		}
		out = append(out, []byte(f))
	}
	return out
}

// show is the reverse of frames, for messages of failed tests.
func show(fs [][]byte) string {
	parts := make([]string, 0, len(fs))
	for _, f := range fs {
		parts = append(parts, fmt.Sprintf("%q", f))
	}
	return "[" + strings.Join(parts, " ") + "]"
}

func equalFrames(a, b [][]byte) bool {
	return slices.EqualFunc(a, b, func(x, y []byte) bool { return string(x) == string(y) })
}

// form is one row of the tables of RFC 7, RFC 18 and the dialects: what stands on
// the wire, and the command it is.
type form struct {
	name string
	at   Side
	wire [][]byte
	want Command
	body int // body frames at the end of wire
	// oneWay forms are understood but never written this way.
	oneWay bool
}

func client(kind Kind, d Dialect, delimited bool, service string) Command {
	c := Command{Role: Client, Kind: kind, Dialect: d, Delimited: delimited}
	if service != "" {
		c.Service = []byte(service)
	}
	return c
}

func worker(kind Kind, d Dialect, delimited bool, service, address string) Command {
	c := client(kind, d, delimited, service)
	c.Role = Worker
	if address != "" {
		c.Address = []byte(address)
	}
	return c
}

func enveloped(c Command, fs ...string) Command {
	c.Envelope = frames(fs...)
	return c
}

const address = "00000000deadbeef"

var forms = []form{
	// RFC 7, both halves.
	{name: "0.1 client request", wire: frames("E", "MDPC01", "echo", "a", "b"), want: client(Request, V01, true, "echo"), body: 2},
	{name: "0.1 client reply", at: AtEndpoint, wire: frames("E", "MDPC01", "echo", "a", "b"), want: client(Final, V01, true, "echo"), body: 2},
	{name: "0.1 client request without body", wire: frames("E", "MDPC01", "echo"), want: client(Request, V01, true, "echo")},
	{name: "0.1 client request of an empty body", wire: frames("E", "MDPC01", "echo", "E"), want: client(Request, V01, true, "echo"), body: 1},
	{name: "0.1 client request without delimiter", wire: frames("MDPC01", "echo", "a"), want: client(Request, V01, false, "echo"), body: 1},
	{name: "0.1 ready", wire: frames("E", "MDPW01", "\x01", "echo"), want: worker(Ready, V01, true, "echo", "")},
	{name: "0.1 worker request", at: AtEndpoint, wire: frames("E", "MDPW01", "\x02", address, "E", "a"), want: worker(Request, V01, true, "", address), body: 1},
	{name: "0.1 worker reply", wire: frames("E", "MDPW01", "\x03", address, "E", "a", "b"), want: worker(Final, V01, true, "", address), body: 2},
	{name: "0.1 heartbeat", wire: frames("E", "MDPW01", "\x04"), want: worker(Heartbeat, V01, true, "", "")},
	{name: "0.1 heartbeat to a worker", at: AtEndpoint, wire: frames("E", "MDPW01", "\x04"), want: worker(Heartbeat, V01, true, "", "")},
	{name: "0.1 disconnect", wire: frames("E", "MDPW01", "\x05"), want: worker(Disconnect, V01, true, "", "")},
	{name: "0.1 heartbeat without delimiter", wire: frames("MDPW01", "\x04"), want: worker(Heartbeat, V01, false, "", "")},

	// RFC 18, both halves. Client 02 and 03 are worker 03 and 04.
	{name: "0.2 client request", wire: frames("MDPC02", "\x01", "echo", "a"), want: client(Request, V02, false, "echo"), body: 1},
	{name: "0.2 client partial", at: AtEndpoint, wire: frames("MDPC02", "\x02", "echo", "a"), want: client(Partial, V02, false, "echo"), body: 1},
	{name: "0.2 client final", at: AtEndpoint, wire: frames("MDPC02", "\x03", "echo", "a"), want: client(Final, V02, false, "echo"), body: 1},
	{name: "0.2 ready", wire: frames("MDPW02", "\x01", "echo"), want: worker(Ready, V02, false, "echo", "")},
	{name: "0.2 worker request", at: AtEndpoint, wire: frames("MDPW02", "\x02", address, "E", "a"), want: worker(Request, V02, false, "", address), body: 1},
	{name: "0.2 worker partial", wire: frames("MDPW02", "\x03", address, "E", "a"), want: worker(Partial, V02, false, "", address), body: 1},
	{name: "0.2 worker final", wire: frames("MDPW02", "\x04", address, "E", "a"), want: worker(Final, V02, false, "", address), body: 1},
	{name: "0.2 worker final without body", wire: frames("MDPW02", "\x04", address, "E"), want: worker(Final, V02, false, "", address)},
	{name: "0.2 heartbeat", wire: frames("MDPW02", "\x05"), want: worker(Heartbeat, V02, false, "", "")},
	{name: "0.2 disconnect", wire: frames("MDPW02", "\x06"), want: worker(Disconnect, V02, false, "", "")},

	// What says 0.2 but is not RFC 18.
	{name: "majortomo request", wire: frames("E", "MDPC02", "\x02", "echo", "a"), want: client(Request, Majortomo, true, "echo"), body: 1},
	{name: "majortomo partial", at: AtEndpoint, wire: frames("E", "MDPC02", "\x03", "a"), want: client(Partial, Majortomo, true, ""), body: 1},
	{name: "majortomo final", at: AtEndpoint, wire: frames("E", "MDPC02", "\x04", "a"), want: client(Final, Majortomo, true, ""), body: 1},
	{name: "majortomo ready", wire: frames("E", "MDPW02", "\x01", "echo"), want: worker(Ready, V02, true, "echo", "")},
	{name: "majortomo worker final", wire: frames("E", "MDPW02", "\x04", address, "E", "a"), want: worker(Final, V02, true, "", address), body: 1},
	{name: "majortomo heartbeat", wire: frames("E", "MDPW02", "\x05"), want: worker(Heartbeat, V02, true, "", "")},
	{name: "bare request", wire: frames("E", "MDPC02", "echo", "a"), want: client(Request, Bare, true, "echo"), body: 1},
	{name: "bare reply", at: AtEndpoint, wire: frames("E", "MDPC02", "echo", "a"), want: client(Final, Bare, true, "echo"), body: 1},
	{name: "REQ socket by hand", wire: frames("E", "MDPC02", "\x01", "echo", "a"), want: client(Request, V02, true, "echo"), body: 1},

	// Return envelopes.
	{name: "REQ_CORRELATE", wire: frames("\x00\x00\x00\x07", "E", "MDPC01", "echo", "a"), want: enveloped(client(Request, V01, true, "echo"), "\x00\x00\x00\x07"), body: 1},
	{name: "behind two proxies", wire: frames("p1", "p2", "E", "MDPC02", "\x01", "echo", "a"), want: enveloped(client(Request, V02, true, "echo"), "p1", "p2"), body: 1},
	{name: "empty frame in the envelope", wire: frames("E", "E", "MDPC01", "echo", "a"), want: enveloped(client(Request, V01, true, "echo"), "E"), body: 1},
	{name: "header again in the body", wire: frames("E", "MDPC01", "echo", "E", "MDPC02", "\x01"), want: client(Request, V01, true, "echo"), body: 3},
	{name: "largest envelope", wire: frames("1", "2", "3", "4", "5", "6", "7", strings.Repeat("8", MaxEnvelopeSize), "E", "MDPC01", "echo", "a"),
		want: enveloped(client(Request, V01, true, "echo"), "1", "2", "3", "4", "5", "6", "7", strings.Repeat("8", MaxEnvelopeSize)), body: 1},

	// Tolerated.
	{name: "ready with extra frames", wire: frames("E", "MDPW01", "\x01", "echo", "capacity=4"), want: worker(Ready, V01, true, "echo", ""), body: 1, oneWay: true},
	{name: "heartbeat with extra frames", wire: frames("MDPW02", "\x05", "x"), want: worker(Heartbeat, V02, false, "", ""), body: 1, oneWay: true},
	{name: "disconnect with the service (zeromq.js)", wire: frames("E", "MDPW01", "\x05", "echo"), want: worker(Disconnect, V01, true, "", ""), body: 1, oneWay: true},
	{name: "reply without the empty frame (guide's PHP)", wire: frames("E", "MDPW01", "\x03", address, "a"), want: worker(Final, V01, true, "", address), body: 1, oneWay: true},
	{name: "reply of the address alone", wire: frames("E", "MDPW01", "\x03", address), want: worker(Final, V01, true, "", address), oneWay: true},
	{name: "reply to undefined (zeromq.js)", wire: frames("E", "MDPW01", "\x03", "undefined", "E", "a"), want: worker(Final, V01, true, "", "undefined"), body: 1},
	{name: "reply to nobody", wire: frames("E", "MDPW01", "\x03", "E", "E", "a"), want: Command{Role: Worker, Kind: Final, Dialect: V01, Delimited: true, Address: []byte{}}, body: 1},

	// Names are octets.
	{name: "binary service name", wire: frames("E", "MDPC01", "a\x00b\xff", "a"), want: client(Request, V01, true, "a\x00b\xff"), body: 1},
	{name: "service name of 255 octets", wire: frames("MDPC02", "\x01", strings.Repeat("n", MaxService), "a"), want: client(Request, V02, false, strings.Repeat("n", MaxService)), body: 1},
	{name: "service name of one octet", wire: frames("MDPC02", "\x01", "\x01", "a"), want: client(Request, V02, false, "\x01"), body: 1},
}

func TestForeignForms(t *testing.T) {
	t.Parallel()
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			want := f.want
			want.Body = len(f.wire) - f.body
			got := Command{Head: Head{Token: 9}, Map: []byte("left over")} // Decode overwrites all of it
			if err := Decode(f.wire, f.at, &got); err != nil {
				t.Fatalf("Decode %s: %v", show(f.wire), err)
			}
			compare(t, &got, &want)
			if f.oneWay {
				return
			}
			wire := append(Append(nil, nil, &want), f.wire[want.Body:]...)
			if !equalFrames(wire, f.wire) {
				t.Errorf("Append\n got %s\nwant %s", show(wire), show(f.wire))
			}
		})
	}
}

// compare fails the test unless the two commands are the same, octet by octet.
func compare(t testing.TB, got, want *Command) {
	t.Helper()
	if got.Role != want.Role || got.Kind != want.Kind || got.Dialect != want.Dialect || got.Delimited != want.Delimited || got.Body != want.Body || got.Head != want.Head {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
	if string(got.Service) != string(want.Service) || string(got.Address) != string(want.Address) || string(got.Map) != string(want.Map) {
		t.Errorf("service, address, map\n got %q %q %q\nwant %q %q %q", got.Service, got.Address, got.Map, want.Service, want.Address, want.Map)
	}
	if !equalFrames(got.Envelope, want.Envelope) {
		t.Errorf("envelope: got %s, want %s", show(got.Envelope), show(want.Envelope))
	}
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 256)
	for _, row := range []struct {
		name string
		at   Side
		wire [][]byte
		want error
	}{
		{"no frames", AtBroker, nil, ErrEmpty},
		{"empty frame (PROBE_ROUTER)", AtBroker, frames("E"), ErrEmpty},
		{"two empty frames", AtBroker, frames("E", "E"), ErrHeader},
		{"garbage", AtBroker, frames("GET / HTTP/1.1\r\n"), ErrHeader},
		{"garbage behind a delimiter", AtBroker, frames("E", "hello", "world"), ErrHeader},
		{"lower case", AtBroker, frames("mdpc01", "echo", "a"), ErrHeader},
		{"version 4", AtBroker, frames("MDPC04", "\x01", "echo"), ErrHeader},
		{"peer link of version 1", AtBroker, frames("MDPB01", "\x01", "echo"), ErrHeader},
		{"header with a tail", AtBroker, frames("E", "MDPC012", "echo", "a"), ErrHeader},
		{"majordomo's 0.3 draft", AtBroker, frames("MDPC0X", "\x01", "echo", "a"), ErrHeader},
		{"zproto majordomo", AtBroker, frames("\xaa\xa4\x01\x06MDPC02\x04echo"), ErrHeader},
		{"pigato", AtBroker, frames("C", "1", "echo", "a"), ErrHeader},
		{"envelope without delimiter", AtBroker, frames("id", "MDPC01", "echo", "a"), ErrHeader},
		{"envelope frame of 256 octets", AtBroker, frames(long, "E", "MDPC01", "echo", "a"), ErrEnvelope},
		{"envelope of nine frames", AtBroker, frames("1", "2", "3", "4", "5", "6", "7", "8", "9", "E", "MDPC01", "echo", "a"), ErrHeader},

		{"0.1 header alone", AtBroker, frames("E", "MDPC01"), ErrTruncated},
		{"0.1 request to nobody", AtBroker, frames("E", "MDPC01", "E", "a"), ErrService},
		{"0.1 request, name too long", AtBroker, frames("E", "MDPC01", long, "a"), ErrService},
		{"0.2 header alone", AtBroker, frames("MDPC02"), ErrTruncated},
		{"0.2 request without service", AtBroker, frames("MDPC02", "\x01"), ErrTruncated},
		{"0.2 request to nobody", AtBroker, frames("MDPC02", "\x01", "E", "a"), ErrService},
		{"0.2 request, name too long", AtBroker, frames("MDPC02", "\x01", long), ErrService},
		{"0.2 partial from a client", AtBroker, frames("MDPC02", "\x02", "echo", "a"), ErrCommand},
		{"0.2 final from a client", AtBroker, frames("MDPC02", "\x03", "echo", "a"), ErrCommand},
		{"0.2 request from a broker", AtEndpoint, frames("MDPC02", "\x01", "echo", "a"), ErrCommand},
		{"0.2 command 00", AtBroker, frames("MDPC02", "\x00", "echo", "a"), ErrCommand},
		{"0.2 command ff", AtBroker, frames("MDPC02", "\xff", "echo", "a"), ErrCommand},
		{"0.2 no command octet, no delimiter", AtBroker, frames("MDPC02", "echo", "a"), ErrCommand},
		{"0.2 empty command", AtBroker, frames("MDPC02", "E", "echo", "a"), ErrCommand},
		{"0.2 empty command behind a delimiter", AtBroker, frames("E", "MDPC02", "E", "echo", "a"), ErrCommand},
		{"bare request, name too long", AtBroker, frames("E", "MDPC02", long, "a"), ErrService},
		{"majortomo final from a client", AtBroker, frames("E", "MDPC02", "\x04", "a"), ErrCommand},
		{"majortomo request without service", AtBroker, frames("E", "MDPC02", "\x02"), ErrTruncated},

		{"worker header alone", AtBroker, frames("E", "MDPW01"), ErrTruncated},
		{"worker empty command", AtBroker, frames("E", "MDPW01", "E"), ErrCommand},
		{"worker command of two octets", AtBroker, frames("E", "MDPW01", "\x01\x01", "echo"), ErrCommand},
		{"worker command as a digit", AtBroker, frames("E", "MDPW01", "1", "echo"), ErrCommand},
		{"worker command 00", AtBroker, frames("E", "MDPW01", "\x00"), ErrCommand},
		{"0.1 worker command 06", AtBroker, frames("E", "MDPW01", "\x06"), ErrCommand},
		{"0.2 worker command 07", AtBroker, frames("MDPW02", "\x07"), ErrCommand},
		{"0.1 ready without service", AtBroker, frames("E", "MDPW01", "\x01"), ErrTruncated},
		{"0.1 ready for nothing", AtBroker, frames("E", "MDPW01", "\x01", "E"), ErrService},
		{"0.1 ready, name too long", AtBroker, frames("E", "MDPW01", "\x01", long), ErrService},
		{"0.2 ready without service", AtBroker, frames("MDPW02", "\x01"), ErrTruncated},
		{"0.1 short reply", AtBroker, frames("E", "MDPW01", "\x03"), ErrTruncated},
		{"0.2 short partial", AtBroker, frames("MDPW02", "\x03"), ErrTruncated},
		{"0.2 short final, or libmdp's heartbeat", AtBroker, frames("MDPW02", "\x04"), ErrTruncated},
		{"short request", AtEndpoint, frames("MDPW02", "\x02"), ErrTruncated},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var c Command
			if err := Decode(row.wire, row.at, &c); !errors.Is(err, row.want) {
				t.Errorf("Decode %s: got %v as %+v, want %v", show(row.wire), err, c, row.want)
			}
		})
	}
}

// A READY that names no service must be answered by DISCONNECT, in the worker's own
// way of writing: so the error leaves enough in the command.
func TestDecodeErrorTellsWhoItWas(t *testing.T) {
	t.Parallel()
	for _, wire := range [][][]byte{frames("E", "MDPW01", "\x01"), frames("E", "MDPW01", "\x01", "E")} {
		var c Command
		if err := Decode(wire, AtBroker, &c); err == nil {
			t.Fatalf("Decode %s: no error", show(wire))
		}
		c.Kind = Disconnect
		if got, want := Append(nil, nil, &c), frames("E", "MDPW01", "\x05"); !equalFrames(got, want) {
			t.Errorf("answer: got %s, want %s", show(got), show(want))
		}
	}
}

// What a dialect cannot say must not come out as something else.
func TestAppendOfWhatADialectLacks(t *testing.T) {
	t.Parallel()
	for _, c := range []Command{
		worker(Partial, V01, true, "", address),
		worker(Welcome, V01, true, "", ""),
		worker(Cancel, V02, false, "", ""),
	} {
		wire := Append(nil, nil, &c)
		var got Command
		if err := Decode(wire, AtEndpoint, &got); !errors.Is(err, ErrCommand) {
			t.Errorf("%s of %s: written as %s, read as %s (%v)", c.Kind, c.Dialect, show(wire), got.Kind, err)
		}
	}
	partial, want := client(Partial, V01, true, "echo"), frames("E", "MDPC01", "echo")
	if got := Append(nil, nil, &partial); !equalFrames(got, want) {
		t.Errorf("partial to a 0.1 client: got %s, want %s", show(got), show(want))
	}
}

func TestViewsCannotGrowIntoTheirNeighbours(t *testing.T) {
	t.Parallel()
	wire := frames("p1", "E", "MDPC01", "echo", "a")
	var c Command
	if err := Decode(wire, AtBroker, &c); err != nil {
		t.Fatal(err)
	}
	_ = append(c.Envelope, []byte("overwritten"))
	if string(wire[1]) != "" {
		t.Errorf("appending to the envelope changed the message: %s", show(wire))
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	for token, want := range map[uint64]string{
		0:                  "0000000000000000",
		0xdeadbeef:         address,
		0x0123456789abcdef: "0123456789abcdef",
		1<<64 - 1:          "ffffffffffffffff",
	} {
		if got := string(AppendAddress(nil, token)); got != want {
			t.Errorf("AppendAddress(%#x): got %q, want %q", token, got, want)
		}
		if got, ok := ParseAddress([]byte(want)); !ok || got != token {
			t.Errorf("ParseAddress(%q): got %#x, %v", want, got, ok)
		}
	}
	for _, bad := range []string{"", "undefined", address[1:], address + "0", strings.ToUpper(address), "00000000 eadbeef", "\x00\x80\x00\x00\x29"} {
		if got, ok := ParseAddress([]byte(bad)); ok {
			t.Errorf("ParseAddress(%q): took it for %#x", bad, got)
		}
	}
}
