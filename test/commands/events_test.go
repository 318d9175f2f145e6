package commands

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// warm publishes until every subscriber says that it got something: subscriptions
// travel to the publisher, and nobody is told when they are there.
func warm(t *testing.T, publish func(), subscribers ...*meshproc.Process) {
	t.Helper()
	for _, s := range subscribers {
		meshproc.Eventually(t, "the subscription has arrived", func() error {
			if s.Output() != "" {
				return nil
			}
			publish()
			return fmt.Errorf("nothing heard")
		})
	}
}

// once checks that a subscriber said each of the numbered lines exactly once, in
// order, up to the last.
func once(t *testing.T, s *meshproc.Process, prefix string, count int) {
	t.Helper()
	s.Says(t, fmt.Sprintf("%s%d", prefix, count))
	next := 1
	for line := range strings.SplitSeq(s.Output(), "\n") {
		if !strings.HasPrefix(line, prefix) || strings.Contains(line, "warm") {
			continue
		}
		if line != fmt.Sprintf("%s%d", prefix, next) {
			t.Fatalf("got %q, want number %d", line, next)
		}
		next++
	}
	if next != count+1 {
		t.Errorf("%d events, want %d", next-1, count)
	}
}

// TestPlainSockets: a PUB of libzmq at one broker, SUBs of libzmq and mdcli at both:
// each event comes exactly once, over the link, too.
func TestPlainSockets(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	var all []*meshproc.Process
	for _, at := range []*broker{a, b} {
		plain, _ := events(t, "sub", at.subscribe, "news/")
		all = append(all, plain, meshproc.Start(t, cli(t, at, "sub", "news/")))
	}
	_, in := events(t, "pub", a.publish)
	say := func(topic, body string) {
		if _, err := io.WriteString(in, topic+" "+body+"\n"); err != nil {
			t.Fatal(err)
		}
	}
	warm(t, func() { say("news/x", "warm") }, all...)
	const count = 200
	for n := 1; n <= count; n++ {
		say("other/x", fmt.Sprint(n))
		say("news/x", fmt.Sprint(n))
	}
	for i, s := range all {
		once(t, s, []string{"event news/x ", "news/x "}[i%2], count)
	}
}

// TestPubSub: mdcli on both ends, at linked brokers.
func TestPubSub(t *testing.T) {
	t.Parallel()
	a, b := pair(t)
	table := meshproc.Start(t, cli(t, b, "sub", "t/"))
	objects := meshproc.Start(t, cli(t, a, "-o", "jsonl", "sub", "t/", "u/"))
	warm(t, func() { want(t, a, "", "pub", "t/1", "warm") }, table, objects)
	binary := cli(t, a, "pub", "t/2", "-")
	binary.Stdin = strings.NewReader("\x00\x01")
	if r := meshproc.Run(t, binary); r.Code != 0 {
		t.Fatalf("exit code %d: %s", r.Code, r.Stderr)
	}
	want(t, a, "", "pub", "t/3")
	table.Line(t, "t/2 \x00\x01")
	table.Line(t, "t/3 ")
	objects.Says(t, `"topic":"t/3"`)
	for line := range strings.SplitSeq(objects.Output(), "\n") {
		var e struct {
			Topic string
			Body  [][]byte
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if e.Topic == "t/2" && (len(e.Body) != 1 || string(e.Body[0]) != "\x00\x01") || e.Topic == "t/3" && len(e.Body) != 0 {
			t.Errorf("event %+v", e)
		}
	}
	// Ctrl-C is how sub ends.
	table.SignalGroup(t, syscall.SIGINT)
	if code := table.Wait(t); code != 0 {
		t.Errorf("exit code %d after Ctrl-C, want 0", code)
	}
}

func TestSubCount(t *testing.T) {
	t.Parallel()
	b := startBroker(t)
	sub := meshproc.Start(t, cli(t, b, "sub", "--count", "2", ""))
	for {
		select {
		case <-sub.Exited():
			if code := sub.Wait(t); code != 0 || sub.Output() != "t warm\nt warm" {
				t.Errorf("exit code %d, said %q; want two events", code, sub.Output())
			}
			return
		case <-time.After(10 * time.Millisecond): // not told when it has subscribed
			want(t, b, "", "pub", "t", "warm")
		}
	}
}

// TestNoEvents: a broker without the endpoints says so at once.
func TestNoEvents(t *testing.T) {
	t.Parallel()
	p := meshproc.Start(t, meshproc.Command(t, "mdbroker", "--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", ""))
	b := &broker{Process: p, requests: p.Endpoint(t, "requests")}
	oneLine(t, run(t, b, "pub", "t", "x"), 69, "no such event endpoint")
	oneLine(t, run(t, b, "sub", "t"), 69, "no endpoint for subscribers")
}
