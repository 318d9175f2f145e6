package mdp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"
)

// unhex reads hex digits; spaces, line ends and everything behind '#' are for people.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		digits.WriteString(strings.Join(strings.Fields(line), ""))
	}
	p, err := hex.DecodeString(digits.String())
	if err != nil {
		t.Fatalf("test data: %v", err)
	}
	return p
}

var (
	id0    = RequestID{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}
	goldID = "00010203 04050607 08090a0b 0c0d0e0f"
)

// The golden frames fix the wire: a change here breaks every peer that exists.
var golden = []struct {
	name string
	cmd  Command
	head string
}{
	{"client request", Command{Role: Client, Kind: Request, Service: []byte("echo"),
		Head: Head{Flags: FlagOnce | FlagNoWait, Token: 0x0102030405060708, ID: id0, Remaining: 5000, Attempt: 1, Status: 0, Hops: 2}}, `
		4d4450433033    # MDPC03
		03              # request
		03              # once, no-wait
		0102030405060708
		` + goldID + `
		00001388        # 5000 ms
		0001            # attempt
		0000            # status
		02              # hops
		04 6563686f     # echo`},
	{"client final with an error", Command{Role: Client, Kind: Final, Map: []byte{0x80},
		Head: Head{Flags: FlagMap | FlagMayHaveRun, Token: 7, ID: id0, Attempt: 2, Status: uint16(AppError)}}, `
		4d4450433033 05 18 0000000000000007 ` + goldID + ` 00000000 0002 0208 00 00`},
	{"worker hello", Command{Role: Worker, Kind: Hello, Service: []byte("echo"), Map: []byte{0x80},
		Head: Head{Flags: FlagMap, Status: 4}}, `
		4d4450573033 01 08 0000000000000000 00000000000000000000000000000000 00000000 0000 0004 00 04 6563686f`},
	{"worker credit", Command{Role: Worker, Kind: Credit, Head: Head{Status: 65535}}, `
		4d4450573033 07 00 0000000000000000 00000000000000000000000000000000 00000000 0000 ffff 00 00`},
	{"peer heartbeat", Command{Role: Peer, Kind: Heartbeat, Head: Head{Remaining: 250}}, `
		4d4450423033 08 00 0000000000000000 00000000000000000000000000000000 000000fa 0000 0000 00 00`},
	{"peer final with its load entry", Command{Role: Peer, Kind: Final, Service: []byte("echo"),
		Head: Head{Flags: FlagNeed, Token: 1<<64 - 1, ID: id0, Attempt: 1,
			Load: Load{Seen: 1, Idle: 2, Queue: 3, Via: 4, MeanUs: 5, Workers: 6, ElapsedMs: 7, WaitedUs: 8}}}, `
		4d4450423033 05 40 ffffffffffffffff ` + goldID + ` 00000000 0001 0000 00 04 6563686f
		00000001 00000002 00000003 00000004 00000005 00000006 00000007 00000008`},
}

func TestNativeGolden(t *testing.T) {
	t.Parallel()
	for _, g := range golden {
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			want := g.cmd
			want.Dialect = Native
			scratch := bytes.Repeat([]byte{0xee}, MaxHead) // whatever was there before must not shine through
			wire := Append(nil, scratch, &want)
			if !bytes.Equal(wire[0], unhex(t, g.head)) {
				t.Errorf("head\n got %x\nwant %x", wire[0], unhex(t, g.head))
			}
			want.Body = len(wire)
			wire = append(wire, []byte("body"))
			var got Command
			if err := Decode(wire, AtBroker, &got); err != nil {
				t.Fatal(err)
			}
			compare(t, &got, &want)
		})
	}
}

func TestCommandOctets(t *testing.T) {
	t.Parallel()
	for octet, name := range strings.Fields("- hello welcome request partial final cancel credit heartbeat drain attach bye state event interest") {
		if octet > 0 && Kind(octet).String() != name {
			t.Errorf("octet %02x is %s, want %s", octet, Kind(octet), name)
		}
	}
	if Kind(0).String() != "unknown" || Kind(0x0f).String() != "unknown" || Ready.String() != "ready" {
		t.Error("names beyond the table")
	}
}

func head(role byte, command, flags byte, service string, tail ...byte) []byte {
	h := make([]byte, headSize, MaxHead)
	copy(h, "MDP?03")
	h[3], h[6], h[7], h[41] = role, command, flags, byte(len(service))
	return append(append(h, service...), tail...)
}

func TestNativeRefuses(t *testing.T) {
	t.Parallel()
	short := head('C', 3, 0, "echo")
	for _, row := range []struct {
		name string
		wire [][]byte
		want error
	}{
		{"header alone", frames("MDPC03"), ErrHead},
		{"one octet short of a head", [][]byte{head('C', 8, 0, "")[:headSize-1]}, ErrHead},
		{"name cut", [][]byte{short[:len(short)-1]}, ErrHead},
		{"command 00", [][]byte{head('C', 0, 0, "")}, ErrCommand},
		{"command 0f", [][]byte{head('B', 0x0f, 0, "")}, ErrCommand},
		{"ready's internal number", [][]byte{head('W', byte(Ready), 0, "echo")}, ErrCommand},
		{"state from a client", [][]byte{head('C', byte(State), 0, "")}, ErrCommand},
		{"event from a worker", [][]byte{head('W', byte(Event), 0, "")}, ErrCommand},
		{"request without service", [][]byte{head('C', 3, 0, "")}, ErrService},
		{"worker hello without service", [][]byte{head('W', 1, FlagMap, ""), {0x80}}, ErrService},
		{"peer final without service", [][]byte{head('B', 5, 0, "", make([]byte, loadSize)...)}, ErrService},
		{"peer request, load entry cut", [][]byte{head('B', 3, 0, "echo", make([]byte, loadSize-1)...)}, ErrHead},
		{"map flagged but absent", [][]byte{head('C', 1, FlagMap, "")}, ErrMap},
		{"map empty", [][]byte{head('C', 1, FlagMap, ""), {}}, ErrMap},
		{"map too large", [][]byte{head('C', 1, FlagMap, ""), make([]byte, MaxMap+1)}, ErrMap},
		{"unknown role", [][]byte{head('X', 3, 0, "echo")}, ErrHeader},
		{"delimited", [][]byte{{}, head('C', 3, 0, "echo")}, ErrHeader},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			var c Command
			if err := Decode(row.wire, AtBroker, &c); !errors.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

// Later revisions may add fields behind the known ones and bits to the flags.
func TestNativeIgnoresWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, h := range [][]byte{
		head('C', 3, 0x80, "echo", 1, 2, 3),
		head('B', 3, 0x80, "echo", append(make([]byte, loadSize), 1, 2, 3)...),
	} {
		var c Command
		if err := Decode([][]byte{h, []byte("body")}, AtBroker, &c); err != nil {
			t.Errorf("%x: %v", h, err)
		}
		if string(c.Service) != "echo" || c.Body != 1 {
			t.Errorf("%x: read as %+v", h, c)
		}
	}
}

func TestStateGolden(t *testing.T) {
	t.Parallel()
	entries := []StateEntry{
		{Service: []byte("echo"), Need: true, Load: Load{Seen: 1, Idle: 2, Queue: 3, Via: 4, MeanUs: 5, Workers: 6}},
		{Service: []byte("x"), Load: Load{Seen: 1<<32 - 1}},
	}
	want := unhex(t, `
		04 6563686f 01 00000001 00000002 00000003 00000004 00000005 00000006
		01 78       00 ffffffff 00000000 00000000 00000000 00000000 00000000`)
	var wire []byte
	for i := range entries {
		wire = AppendState(wire, &entries[i])
	}
	if !bytes.Equal(wire, want) {
		t.Errorf("got  %x\nwant %x", wire, want)
	}
	for i := range entries {
		var e StateEntry
		var err error
		if wire, err = NextState(wire, &e); err != nil {
			t.Fatal(err)
		}
		if string(e.Service) != string(entries[i].Service) || e.Need != entries[i].Need || e.Load != entries[i].Load {
			t.Errorf("entry %d: got %+v, want %+v", i, e, entries[i])
		}
	}
	if len(wire) != 0 {
		t.Errorf("%d octets left", len(wire))
	}
}

func TestStateRefuses(t *testing.T) {
	t.Parallel()
	whole := AppendState(nil, &StateEntry{Service: []byte("echo")})
	for n := range len(whole) {
		var e StateEntry
		if rest, err := NextState(whole[:n], &e); err == nil {
			t.Errorf("entry cut to %d of %d octets was read as %+v, rest %x", n, len(whole), e, rest)
		}
	}
	if _, err := NextState(make([]byte, 64), new(StateEntry)); err == nil {
		t.Error("entry without a name was taken")
	}
}

func TestRequestIDText(t *testing.T) {
	t.Parallel()
	const text = "000102030405060708090a0b0c0d0e0f"
	if id0.String() != text {
		t.Errorf("String: %s", id0)
	}
	if id, err := ParseRequestID(text); err != nil || id != id0 {
		t.Errorf("ParseRequestID: %s, %v", id, err)
	}
	for _, bad := range []string{"", text[1:], text + "0", "g" + text[1:]} {
		if _, err := ParseRequestID(bad); err == nil {
			t.Errorf("ParseRequestID(%q) took it", bad)
		}
	}
}

// A head is no place to hide a body in.
func TestPaddedHead(t *testing.T) {
	t.Parallel()
	c := Command{Role: Client, Kind: Request, Dialect: Native, Service: []byte("s")}
	head := Append(nil, make([]byte, MaxHead), &c)[0]
	padded := append(bytes.Clone(head), make([]byte, 100)...) // fields of a later revision
	if err := Decode([][]byte{padded}, AtBroker, &c); err != nil {
		t.Errorf("100 octets more: %v", err)
	}
	padded = append(padded, make([]byte, 1000)...)
	if err := Decode([][]byte{padded}, AtBroker, &c); !errors.Is(err, ErrHead) {
		t.Errorf("1,100 octets more: %v", err)
	}
}
