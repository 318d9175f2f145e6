package mdp

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

func TestMapsRoundTrip(t *testing.T) {
	t.Parallel()
	for _, m := range []any{
		&HelloMap{Instance: "0123456789abcdef", Host: "h", PID: 7, Version: "1.0", Concurrency: 4, Scope: "local", Reads: true, Tags: []string{"a", "b"},
			Revision: Revision, Name: "n", Incarnation: "i", Zone: "z", UpdateMs: 5, Advertise: "tcp://h:1"},
		&WelcomeMap{Revision: Revision, HeartbeatMs: 1000, MaxMessage: 1 << 40, Name: "n", Incarnation: "i", Endpoints: []string{"tcp://h:1"},
			Publish: []string{"tcp://h:2"}, Subscribe: []string{"tcp://h:3"}},
		&ErrorMap{Text: "broken", RetryMs: 250},
	} {
		got := reflect.New(reflect.TypeOf(m).Elem()).Interface()
		if err := DecodeMap(EncodeMap(m), got); err != nil {
			t.Fatalf("%T: %v", m, err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%T: got %+v, want %+v", m, got, m)
		}
	}
}

// A newer peer may say more, in any msgpack type.
func TestDecodeMapIgnoresUnknownKeys(t *testing.T) {
	t.Parallel()
	p, err := msgpack.Marshal(map[string]any{
		"instance": "abc", "later": map[string]any{"deep": []any{1, "x", nil, 2.5, true, []byte("octets")}}, "when": time.Unix(1, 2), "big": uint64(1 << 63),
	})
	if err != nil {
		t.Fatal(err)
	}
	var m HelloMap
	if err := DecodeMap(p, &m); err != nil || m.Instance != "abc" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestDecodeMapRefuses(t *testing.T) {
	t.Parallel()
	good := EncodeMap(&HelloMap{Instance: "abc"})
	for name, p := range map[string][]byte{
		"nothing":                      nil,
		"too large":                    append(good, make([]byte, MaxMap)...),
		"octets behind the map":        append(bytes.Clone(good), 0xc0),
		"not a map: nil":               {0xc0},
		"not a map: array":             {0x91, 0xa1, 'x'},
		"a code never used":            {0x81, 0xa1, 'x', 0xc1},
		"cut":                          good[:len(good)-1],
		"text of 4 GiB announced":      unhex(t, "81 a4 74616773 91 db ffffffff"),
		"array of 2^32 announced":      unhex(t, "81 a4 74616773 dd ffffffff"),
		"map of 2^32 announced":        unhex(t, "df ffffffff"),
		"length cut":                   unhex(t, "81 a1 78 dd 0000"),
		"nested too deeply":            append([]byte{0x81, 0xa1, 'x'}, append(bytes.Repeat([]byte{0x91}, 16000), 0xc0)...),
		"instance is a number":         unhex(t, "81 a8 696e7374616e6365 01"),
		"tags are a text":              unhex(t, "81 a4 74616773 a1 78"),
		"extension longer than itself": unhex(t, "81 a1 78 c7 ff 01"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m HelloMap
			if err := DecodeMap(p, &m); !errors.Is(err, ErrMap) {
				t.Errorf("got %v as %+v", err, m)
			}
		})
	}
}

// Every value the encoder can write is well formed, and none of its prefixes is.
func TestWellFormedMapKnowsEveryFormat(t *testing.T) {
	t.Parallel()
	values := []any{nil, true, false, 0, -1, -33, 127, 128, 256, 65536, uint64(1 << 63), int64(-1 << 62), float32(1), 2.5,
		"", "short", strings.Repeat("x", 40), strings.Repeat("x", 300), []byte("x"), make([]byte, 300), time.Unix(1, 0), time.Unix(1, 2), time.Unix(1<<35, 1),
		[]int{}, []int{1}, make([]int, 20), map[string]int{}, map[string]int{"a": 1}, bigMap(20)}
	for _, long := range []string{"81 a1 76 dd 00000002 01 02", "df 00000001 a1 76 df 00000001 01 02", "81 a1 76 d9 01 78", "81 a1 76 c6 00000001 78"} {
		if !wellFormedMap(unhex(t, long)) { // longer forms than the encoder's
			t.Errorf("refuses %s", long)
		}
	}
	for _, v := range values {
		p, err := msgpack.Marshal(map[string]any{"v": v})
		if err != nil {
			t.Fatal(err)
		}
		if !wellFormedMap(p) {
			t.Errorf("refuses %T %v: %x", v, v, p)
		}
		for n := range p {
			if wellFormedMap(p[:n]) {
				t.Errorf("takes %d of %d octets of %x", n, len(p), p)
			}
		}
	}
}

func bigMap(n int) map[int]bool {
	m := map[int]bool{}
	for i := range n {
		m[i] = true
	}
	return m
}

func TestAnswerErrors(t *testing.T) {
	t.Parallel()
	for _, want := range []*Error{
		{Status: NoWorker, Text: "no worker offers echo"},
		{Status: Busy, RetryAfter: 250 * time.Millisecond},
		{Status: WorkerLost, MayHaveRun: true},
		{Status: Status(999), Text: "from a newer broker"},
	} {
		c := Command{Role: Client, Kind: Final, Dialect: Native, Head: Head{Flags: FlagMayHaveRun}}
		c.SetError(want)
		wire := Append(nil, make([]byte, MaxHead), &c)
		var got Command
		if err := Decode(wire, AtEndpoint, &got); err != nil {
			t.Fatal(err)
		}
		var e *Error
		if err := AnswerError(&got); !errors.As(err, &e) || *e != *want {
			t.Errorf("got %+v, want %+v", e, want)
		}
		if !errors.Is(e, want.Status) || errors.Is(e, Internal) {
			t.Errorf("errors.Is of %v", e)
		}
	}
	if err := AnswerError(&Command{}); err != nil {
		t.Errorf("status OK: %v", err)
	}
}

// An error's text comes from handlers: as long and as broken as it may be, the
// answer must arrive.
func TestSetErrorAlwaysFits(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"long":             strings.Repeat("x", 1<<20),
		"cut in a rune":    "x" + strings.Repeat("é", MaxText),
		"invalid":          strings.Repeat("\xff", MaxText),
		"invalid and long": strings.Repeat("\x80", 1<<20),
		"mixed":            strings.Repeat("\xffa", MaxText),
	} {
		var c Command
		c.SetError(&Error{Status: AppError, Text: text, RetryAfter: time.Hour})
		var m ErrorMap
		if err := DecodeMap(c.Map, &m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(m.Text) > MaxText || !utf8.ValidString(m.Text) {
			t.Errorf("%s: %d octets, valid %v", name, len(m.Text), utf8.ValidString(m.Text))
		}
		if name == "cut in a rune" && len(m.Text) != MaxText-1 {
			t.Errorf("%s: %d octets are left", name, len(m.Text))
		}
	}
}

func TestAnswerErrorSurvivesStrangeMaps(t *testing.T) {
	t.Parallel()
	for name, p := range map[string][]byte{
		"garbage":        []byte("garbage"),
		"retry for ever": EncodeMap(&ErrorMap{RetryMs: 1<<63 - 1}),
		"retry in past":  EncodeMap(&ErrorMap{RetryMs: -5}),
		"broken text":    unhex(t, "81 a4 74657874 a2 ff41"),
		"absent":         nil,
	} {
		var e *Error
		if err := AnswerError(&Command{Head: Head{Status: uint16(Busy)}, Map: p}); !errors.As(err, &e) {
			t.Fatalf("%s: %v", name, err)
		}
		if !utf8.ValidString(e.Text) || e.Status != Busy || e.RetryAfter < 0 || e.RetryAfter > 24*time.Hour {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	for got, want := range map[string]string{
		NoWorker.String():    "NO_WORKER",
		NoWorker.Error():     "no worker",
		Status(999).String(): "STATUS_999",
		Native.String():      "native",
		Bare.String():        "0.2-bare",
		Dialect(0).String():  "unknown",
		Dialect(99).String(): "unknown",
		Peer.String():        "peer",
		Role(0).String():     "unknown",
		Errorf(Denied, "service %q", "x").Error(): `denied: service "x"`,
		(&Error{Status: Expired}).Error():         "expired",
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for s, name := range statusNames {
		if s.String() != name {
			t.Errorf("%d: %s", s, s)
		}
	}
}
