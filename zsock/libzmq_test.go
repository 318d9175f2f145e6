package zsock

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// libzmq starts testdata/peer.py in the given mode. The test fails if the peer
// does; finish waits for it.
func libzmq(t *testing.T, arguments ...string) (lines *bufio.Scanner, in io.WriteCloser, finish func()) {
	t.Helper()
	python := "python3"
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		python = "/usr/bin/python3" // where distributions put their own zmq module
	}
	if err := exec.Command(python, "-c", "import zmq").Run(); err != nil {
		missing := "needs python3 with the zmq module (Debian: python3-zmq)"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	cmd := exec.Command(python, append([]string{"testdata/peer.py"}, arguments...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	lines = bufio.NewScanner(out)
	return lines, in, func() {
		t.Helper()
		_ = in.Close()
		for lines.Scan() {
			t.Log("left unread:", lines.Text())
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %v\n%s", arguments, err, stderr.String())
		}
	}
}

// line is the next line of a peer, without its first word, which must be word.
func line(t *testing.T, lines *bufio.Scanner, word string) string {
	t.Helper()
	if !lines.Scan() {
		t.Fatalf("the peer ended where %q was expected", word)
	}
	got, rest, _ := strings.Cut(lines.Text(), " ")
	if got != word {
		t.Fatalf("the peer says %q, want %q", lines.Text(), word)
	}
	return rest
}

func TestLibzmqConnects(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		mode string
		over transport
	}{
		{"dealer", transports()[0]},
		{"dealer", transport{"ipc", nil, "ipc://*", true}},
		{"req", transports()[0]},
		{"router_client", transports()[1]},
		{"heartbeat", transports()[1]},
	} {
		mode := test.mode
		t.Run(mode+" over "+test.over.name, func(t *testing.T) {
			t.Parallel()
			h := echoing()
			l := listen(t, test.over, Config{}, h)
			_, _, finish := libzmq(t, mode, l.Endpoint())
			finish()
			c := receive(t, h.opened)
			if mode == "dealer" && string(c.Peer().Identity) != "libzmq" {
				t.Errorf("peer %+v", c.Peer())
			}
			if got := l.Counters(); got.Opened != 1 || got.IgnoredMessages != 0 {
				t.Errorf("counters %+v", got)
			}
		})
	}
}

func TestLibzmqIsRefused(t *testing.T) {
	t.Parallel()
	for mode, why := range map[string][]string{
		"wrong": {"socket-type"},
		"plain": {"mechanism", "peer-closed"}, // it has our greeting first, and may leave on its own
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			l := listen(t, transports()[0], Config{}, newRecorder())
			_, _, finish := libzmq(t, mode, l.Endpoint())
			finish()
			waitFor(t, func() bool { return len(l.Counters().Failed) > 0 })
			got := l.Counters()
			for name := range got.Failed {
				if !slices.Contains(why, name) || got.Opened != 0 {
					t.Errorf("counters %+v", got)
				}
			}
		})
	}
}

func TestLibzmqSubscribes(t *testing.T) {
	t.Parallel()
	for _, own := range []SocketType{Pub, XPub} {
		t.Run("SUB to "+string(own), func(t *testing.T) {
			t.Parallel()
			h := newRecorder()
			l := listen(t, transports()[0], Config{Type: own}, h)
			lines, _, finish := libzmq(t, "sub", l.Endpoint())
			line(t, lines, "subscribed")
			// libzmq subscribes twice for two, and cancels once, with the last of them:
			// what a publisher keeps per connection is a set.
			expect(t, h, "\x01a", "\x01a", "\x01b", "\x01")
			c := receive(t, h.opened)
			send(t, c, "a/1", "body")
			expect(t, h, "\x00", "\x00a")
			send(t, c, "b", "", strings.Repeat("x", 100_000))
			finish()
		})
	}
	t.Run("XSUB to XPUB", func(t *testing.T) {
		t.Parallel()
		h := newRecorder()
		l := listen(t, transports()[0], Config{Type: XPub}, h)
		_, _, finish := libzmq(t, "xsub", l.Endpoint())
		topic := strings.Repeat("p", 1000)
		expect(t, h, "\x01a", "\x00a", "\x01"+topic)
		send(t, receive(t, h.opened), topic, "body")
		finish()
	})
}

// expect wants subscriptions, in any order within one call: libzmq sends those it
// had before it connected in the order of its trie.
func expect(t *testing.T, h *recorder, want ...string) {
	t.Helper()
	var got []string
	for range want {
		m := receive(t, h.messages)
		if len(m.frames) != 1 {
			t.Fatalf("got %q", m.frames)
		}
		got = append(got, m.frames[0])
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestLibzmqListens(t *testing.T) {
	t.Parallel()
	join := func(t *testing.T, lines *bufio.Scanner, cfg Config) (*Conn, *recorder) {
		h := newRecorder()
		if cfg.Type == XSub {
			h.then = func(_ *Batch, c *Conn, m *Msg) { // any one will do
				select {
				case h.messages <- message{from: c, frames: []string{string(m.Frames()[0]), fmt.Sprint(m.Size())}}:
				default:
				}
			}
		}
		l := &Listener{endpoint: line(t, lines, "bound")}
		return dial(t, transports()[0], l, cfg, h), h
	}
	t.Run("ROUTER", func(t *testing.T) {
		t.Parallel()
		lines, _, finish := libzmq(t, "router")
		c, h := join(t, lines, Config{})
		all := shapes()
		for name, frames := range all {
			send(t, c, frames...)
			if got := receive(t, h.messages); !slices.Equal(got.frames, frames) {
				t.Errorf("%s came back as %.40q", name, got.frames)
			}
		}
		send(t, c, "end")
		receive(t, h.messages)
		finish()
	})
	t.Run("REP", func(t *testing.T) {
		t.Parallel()
		lines, _, finish := libzmq(t, "rep")
		c, h := join(t, lines, Config{})
		for i := range 3 {
			want := []string{"", fmt.Sprint(i), ""}
			send(t, c, want...)
			if got := receive(t, h.messages); !slices.Equal(got.frames, want) {
				t.Errorf("got %q", got.frames)
			}
		}
		finish()
	})
	t.Run("XPUB", func(t *testing.T) {
		t.Parallel()
		lines, in, finish := libzmq(t, "xpub")
		c, h := join(t, lines, Config{Type: Sub})
		for _, want := range []struct {
			say      string
			receives bool
		}{
			{"\x01topic", true}, {"\x01topic", true}, {"\x00topic", false}, {"\x00topic", false}, {"\x01other", false}, {"\x01", true},
		} {
			send(t, c, want.say)
			if saw := line(t, lines, "saw"); saw != fmt.Sprintf("%x", want.say) {
				t.Errorf("it saw %s of %x", saw, want.say)
			}
			if want.receives {
				if got := receive(t, h.messages); got.frames[2] != want.say {
					t.Errorf("published for %q, received for %q", want.say, got.frames[2])
				}
			}
		}
		send(t, c, "\x01end")
		line(t, lines, "saw")
		receive(t, h.messages)
		if got := receive(t, h.messages); got.frames[0] != "end" {
			t.Errorf("got %q: what was cancelled still came", got.frames)
		}
		_ = in.Close()
		finish()
	})
	t.Run("PUB", func(t *testing.T) {
		t.Parallel()
		lines, in, finish := libzmq(t, "pub")
		c, h := join(t, lines, Config{Type: XSub})
		send(t, c, "\x01top")
		// When PUB takes note cannot be seen from outside: it publishes until it did.
		for len(h.messages) == 0 {
			if _, err := fmt.Fprintln(in, "again"); err != nil {
				t.Fatal(err)
			}
		}
		if got := receive(t, h.messages); got.frames[0] != "topic" || got.frames[1] != "100005" {
			t.Errorf("got %.40q", got.frames)
		}
		finish()
	})
}
