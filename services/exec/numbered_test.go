package exec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// obeyNumbered is the test's program in frames of version 2, to its end.
func obeyNumbered(in *bufio.Reader) {
	say := func(status byte, number uint32, frames ...string) {
		out := binary.BigEndian.AppendUint32([]byte{status}, number)
		var octets [][]byte
		for _, f := range frames {
			octets = append(octets, []byte(f))
		}
		_, _ = os.Stdout.Write(appendFrames(out, octets...))
	}
	for {
		var n uint32
		if binary.Read(in, binary.BigEndian, &n) != nil {
			os.Exit(0)
		}
		frames, err := readRequest(in)
		if err != nil {
			os.Exit(0)
		}
		switch string(frames[1]) {
		case "number":
			say(answerOK, n, fmt.Sprint(n))
		case "pid":
			say(answerOK, n, fmt.Sprint(os.Getpid()))
		case "parts":
			say(answerPart, n, "one")
			say(answerPart, n, "two", "three")
			say(answerPart, n)
			say(answerOK, n, "end")
		case "fail after a part":
			say(answerPart, n, "one")
			say(answerError, n, "out of milk")
		case "die after a part":
			say(answerPart, n, "one")
			os.Exit(3)
		case "twice":
			say(answerOK, n, "right")
			say(answerOK, n, "wrong")
			say(answerPart, n, "wrong")
		case "late":
			say(answerOK, n-1, "wrong")
			say(answerPart, n-1, "wrong")
			say(answerError, 1, "wrong")
			say(answerOK, n, "right")
		case "early":
			say(answerOK, n+1, "wrong")
		case "zero":
			say(answerOK, 0, "wrong")
		case "rubbish":
			say(3, n)
		}
	}
}

func numbered() Config {
	cfg := stays()
	cfg.Frames = Numbered
	return cfg
}

// TestParts: parts come before the answer, and to a caller that wants no stream with it.
func TestParts(t *testing.T) {
	t.Parallel()
	_, s, cl := serveService(t, numbered())
	for range 2 {
		var got []string
		for frames, err := range cl.Stream(t.Context(), client.Call{Service: "run", Body: [][]byte{[]byte("parts")}}) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, string(bytes.Join(frames, []byte("|"))))
		}
		if want := []string{"one", "two|three", "", "end"}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("parts %q, want %q", got, want)
		}
	}
	reply, err := cl.Do(t.Context(), client.Call{Service: "run", Body: [][]byte{[]byte("parts")}})
	if err != nil || len(reply.Partials) != 3 || string(reply.Body[0]) != "end" {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := order(t.Context(), cl, "fail after a part"); !errors.Is(err, mdp.AppError) || !strings.Contains(err.Error(), "out of milk") {
		t.Errorf("error %v", err)
	}
	if n := s.Counters(); n.Started != 1 {
		t.Errorf("counters %+v", n)
	}
}

// TestNumbers: what comes for a request that is answered already is dropped, and never
// taken for the answer of another one; a number that was not given is no answer.
func TestNumbers(t *testing.T) {
	t.Parallel()
	_, s, cl := serveService(t, numbered())
	pid := obeyed(t, cl, "pid")
	if got := obeyed(t, cl, "number"); got != "2" {
		t.Errorf("number %s, want 2", got)
	}
	if got := obeyed(t, cl, "twice"); got != "right" {
		t.Errorf("answer %q", got)
	}
	if got := obeyed(t, cl, "number"); got != "4" {
		t.Errorf("answer %q, want that of the fourth request", got)
	}
	if got := obeyed(t, cl, "late"); got != "right" {
		t.Errorf("answer %q", got)
	}
	if again := obeyed(t, cl, "pid"); again != pid {
		t.Errorf("process %s, then %s: want one for all", pid, again)
	}
	meshproc.Eventually(t, "all that was late is counted", func() error {
		if n := s.Counters(); n.Late != 5 || n.Ended != 0 {
			return fmt.Errorf("counters %+v", n)
		}
		return nil
	})
	for i, c := range []struct{ order, text string }{
		{"early", "it is for request 8, the last one was 7"},
		{"zero", "it is for request 0, the last one was 1"},
		{"rubbish", "0x03, want 00, 01 or 02"},
		{"die after a part", "exit status 3"},
	} {
		_, err := order(t.Context(), cl, c.order)
		if !errors.Is(err, mdp.AppError) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: error %v, want %s", c.order, err, c.text)
		}
		meshproc.Eventually(t, "another program runs", func() error {
			if n := s.Counters(); n.Ended != uint64(i+1) || n.Started != uint64(i+2) {
				return fmt.Errorf("counters %+v", n)
			}
			return nil
		})
	}
}

// TestFramesVersion: a program is told which frames it is spoken to in; others than
// there are, are refused.
func TestFramesVersion(t *testing.T) {
	t.Parallel()
	_, _, cl := serveService(t, stays())
	if got := obeyed(t, cl, "frames version"); got != "1" {
		t.Errorf("MD_FRAMES=%s, want 1", got)
	}
	cfg := stays()
	for _, version := range []int{-1, 3} {
		cfg.Frames = version
		if _, err := New(cfg); err == nil {
			t.Errorf("frames of version %d: no error", version)
		}
	}
}

// TestCountExample: it does what it says.
func TestCountExample(t *testing.T) {
	t.Parallel()
	cfg := Config{Command: []string{"python3", "../../examples/exec/count.py"}, Persistent: true, Frames: Numbered}
	if _, err := osexec.LookPath(cfg.Command[0]); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	_, _, cl := serveService(t, cfg)
	reply, err := cl.Do(t.Context(), client.Call{Service: "run", Body: [][]byte{[]byte("3")}})
	if err != nil || len(reply.Partials) != 3 || string(reply.Partials[2][0]) != "3\n" || string(reply.Body[0]) != "done\n" {
		t.Errorf("%+v, %v", reply, err)
	}
	if _, err := order(t.Context(), cl, "many"); !errors.Is(err, mdp.AppError) {
		t.Errorf("error %v", err)
	}
}
