package foreign

import (
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// asker is one way in which clients write requests and read answers.
type asker struct {
	name    string
	socket  string
	options []string
	ask     func(service string, body ...string) []string
	final   func(service string, body ...string) []string
	// partial is nil where partials come collected, in front of the final's body.
	partial func(service string, body ...string) []string
	// greet opens a session, where there is one.
	greet func(t testing.TB, s *socket)
}

// behind makes a form: fixed frames, then the service, then the body.
func behind(fixed ...string) func(string, ...string) []string {
	return func(service string, body ...string) []string {
		return slices.Concat(fixed, []string{service}, body)
	}
}

// unnamed is the same without the service.
func unnamed(fixed ...string) func(string, ...string) []string {
	return func(_ string, body ...string) []string { return slices.Concat(fixed, body) }
}

var askers = []asker{
	{name: "0.1 REQ", socket: "REQ", ask: behind("MDPC01"), final: behind("MDPC01")},
	{name: "0.1 REQ_CORRELATE", socket: "REQ", options: []string{"REQ_CORRELATE=1", "REQ_RELAXED=1"}, ask: behind("MDPC01"), final: behind("MDPC01")},
	{name: "0.1 DEALER", socket: "DEALER", ask: behind("", "MDPC01"), final: behind("", "MDPC01")},
	{name: "0.1 without delimiter", socket: "DEALER", ask: behind("MDPC01"), final: behind("MDPC01")},
	{name: "0.2", socket: "DEALER", ask: behind("MDPC02", "\x01"), partial: behind("MDPC02", "\x02"), final: behind("MDPC02", "\x03")},
	{name: "0.2 with delimiter", socket: "DEALER", ask: behind("", "MDPC02", "\x01"), partial: behind("", "MDPC02", "\x02"), final: behind("", "MDPC02", "\x03")},
	{name: "majortomo", socket: "DEALER", ask: behind("", "MDPC02", "\x02"), partial: unnamed("", "MDPC02", "\x03"), final: unnamed("", "MDPC02", "\x04")},
	{name: "0.2 without command", socket: "DEALER", ask: behind("", "MDPC02"), final: behind("", "MDPC02")},
	nativeAsker(),
}

func nativeAsker() asker {
	id := mdp.RequestID{0x9f, 15: 1}
	frames := func(kind mdp.Kind, service string, remaining uint32, body []string) []string {
		return slices.Concat(native(mdp.Command{Role: mdp.Client, Kind: kind, Service: []byte(service),
			Head: mdp.Head{Token: 7, ID: id, Remaining: remaining, Attempt: 1}}), body)
	}
	return asker{name: "native", socket: "DEALER",
		ask:     func(service string, body ...string) []string { return frames(mdp.Request, service, 60_000, body) },
		partial: func(_ string, body ...string) []string { return frames(mdp.Partial, "", 0, body) },
		final:   func(_ string, body ...string) []string { return frames(mdp.Final, "", 0, body) },
		greet:   func(t testing.TB, s *socket) { greetNative(t, s, mdp.Client, "", 0) },
	}
}

// native writes a command of ours as frames.
func native(c mdp.Command) []string {
	c.Dialect = mdp.Native
	var out []string
	for _, f := range mdp.Append(nil, make([]byte, mdp.MaxHead), &c) {
		out = append(out, string(f))
	}
	return out
}

// greetNative says HELLO, waits for WELCOME and keeps the session alive.
func greetNative(t testing.TB, s *socket, role mdp.Role, service string, concurrency uint16) mdp.WelcomeMap {
	t.Helper()
	s.send(t, native(mdp.Command{Role: role, Kind: mdp.Hello, Service: []byte(service), Head: mdp.Head{Status: concurrency},
		Map: mdp.EncodeMap(&mdp.HelloMap{Instance: "0123456789abcdef", Revision: mdp.Revision})})...)
	s.beat(t, 500*time.Millisecond, native(mdp.Command{Role: role, Kind: mdp.Heartbeat})...)
	c := decode(t, s.recv(t))
	var welcome mdp.WelcomeMap
	if err := mdp.DecodeMap(c.Map, &welcome); c.Kind != mdp.Welcome || c.Head.Status != 0 || err != nil {
		t.Fatalf("welcome: %s, status %d, %v", c.Kind, c.Head.Status, err)
	}
	return welcome
}

func decode(t testing.TB, frames []string) mdp.Command {
	t.Helper()
	var c mdp.Command
	wire := make([][]byte, len(frames))
	for i, f := range frames {
		wire[i] = []byte(f)
	}
	if err := mdp.Decode(wire, mdp.AtEndpoint, &c); err != nil {
		t.Fatalf("%q: %v", frames, err)
	}
	return c
}

func (a *asker) open(t testing.TB, p *peer, b *broker) *socket {
	t.Helper()
	s := p.open(t, b, a.socket, a.options...)
	if a.greet != nil {
		a.greet(t, s)
	}
	return s
}

// answerer is one way in which workers write.
type answerer struct {
	name       string
	native     bool
	ready      func(service string) []string
	request    []string // what stands before the address
	partial    []string // nil where there is none
	final      []string
	heartbeat  []string
	disconnect []string
}

func foreignAnswerer(name, version string, delimited bool, final, heartbeat, disconnect string) answerer {
	head := func(octet string) []string {
		fs := []string{"MDPW" + version, octet}
		if delimited {
			return slices.Insert(fs, 0, "")
		}
		return fs
	}
	a := answerer{name: name, ready: behind2(head("\x01")), request: head("\x02"), final: head(final), heartbeat: head(heartbeat), disconnect: head(disconnect)}
	if version == "02" {
		a.partial = head("\x03")
	}
	return a
}

func behind2(fixed []string) func(string) []string {
	return func(service string) []string { return append(slices.Clone(fixed), service) }
}

var (
	worker01 = foreignAnswerer("0.1", "01", true, "\x03", "\x04", "\x05")
	worker02 = foreignAnswerer("0.2", "02", false, "\x04", "\x05", "\x06")
)

var answerers = []answerer{
	worker01,
	worker02,
	foreignAnswerer("0.1 without delimiter", "01", false, "\x03", "\x04", "\x05"),
	foreignAnswerer("0.2 with delimiter (majortomo)", "02", true, "\x04", "\x05", "\x06"),
	{name: "native", native: true},
}

// worker is a socket that has said READY.
type worker struct {
	*socket
	form *answerer
}

func (a *answerer) open(t testing.TB, p *peer, b *broker, service string) *worker {
	t.Helper()
	w := &worker{p.open(t, b, "DEALER"), a}
	if a.native {
		greetNative(t, w.socket, mdp.Worker, service, 1)
		return w
	}
	w.send(t, a.ready(service)...)
	return w
}

var addressForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// request waits for the next request and checks every frame of it but the address,
// which it returns: for native workers, the token in the same form.
func (w *worker) request(t testing.TB, body ...string) (address string) {
	t.Helper()
	got := w.recv(t)
	if w.form.native {
		c := decode(t, got)
		if c.Kind != mdp.Request || !slices.Equal(got[c.Body:], body) {
			t.Fatalf("%s: got %s %q, want a request of %q", w.name, c.Kind, got, body)
		}
		return string(mdp.AppendAddress(nil, c.Head.Token))
	}
	n := len(w.form.request)
	if len(got) < n+2 || !slices.Equal(got[:n], w.form.request) || got[n+1] != "" || !slices.Equal(got[n+2:], body) {
		t.Fatalf("%s: got %q, want %q, address, an empty frame, %q", w.name, got, w.form.request, body)
	}
	if !addressForm.MatchString(got[n]) {
		t.Fatalf("address %q is not 16 lower-case hex digits", got[n])
	}
	return got[n]
}

func (w *worker) answer(t testing.TB, address string, body ...string) {
	t.Helper()
	w.reply(t, mdp.Final, w.form.final, address, body)
}

// part sends a partial and tells whether this kind of worker can.
func (w *worker) part(t testing.TB, address string, body ...string) bool {
	t.Helper()
	if w.form.partial == nil && !w.form.native {
		return false
	}
	w.reply(t, mdp.Partial, w.form.partial, address, body)
	return true
}

func (w *worker) reply(t testing.TB, kind mdp.Kind, head []string, address string, body []string) {
	t.Helper()
	if w.form.native {
		token, _ := mdp.ParseAddress([]byte(address))
		head = native(mdp.Command{Role: mdp.Worker, Kind: kind, Head: mdp.Head{Token: token}})
	} else {
		head = slices.Concat(head, []string{address, ""})
	}
	w.send(t, append(head, body...)...)
}

// fail answers, as a native worker, that the handler says no.
func (w *worker) fail(t testing.TB, address, text string) {
	t.Helper()
	token, _ := mdp.ParseAddress([]byte(address))
	c := mdp.Command{Role: mdp.Worker, Kind: mdp.Final, Head: mdp.Head{Token: token}}
	c.SetError(&mdp.Error{Status: mdp.AppError, Text: text, MayHaveRun: true})
	w.send(t, native(c)...)
}
