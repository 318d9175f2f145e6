package exec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"strconv"
	"testing"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// TestMain also is a program that stays: what each request asks it to do is in the
// first frame of its body.
func TestMain(m *testing.M) {
	if os.Getenv("EXEC_TEST_CHILD") == "" {
		meshproc.Main(m)
	}
	in := bufio.NewReader(os.Stdin)
	if os.Getenv("MD_FRAMES") == "2" {
		obeyNumbered(in)
	}
	for {
		frames, err := readRequest(in)
		if err != nil {
			os.Exit(0)
		}
		obey(frames)
	}
}

func readRequest(in io.Reader) (frames [][]byte, err error) {
	var n, size uint32
	if err := binary.Read(in, binary.BigEndian, &n); err != nil {
		return nil, err
	}
	for range n {
		if err := binary.Read(in, binary.BigEndian, &size); err != nil {
			return nil, err
		}
		f := make([]byte, size)
		if _, err := io.ReadFull(in, f); err != nil {
			return nil, err
		}
		frames = append(frames, f)
	}
	return frames, nil
}

func obey(frames [][]byte) {
	fmt.Fprintf(os.Stderr, "doing %s\n", frames[1])
	say := func(octets ...byte) { _, _ = os.Stdout.Write(octets) }
	reply := func(status byte, frames ...[]byte) {
		say(appendFrames([]byte{status}, frames...)...)
	}
	switch string(frames[1]) {
	case "echo":
		reply(answerOK, frames[2:]...)
	case "header":
		reply(answerOK, frames[0])
	case "pid":
		reply(answerOK, strconv.AppendInt(nil, int64(os.Getpid()), 10))
	case "frames version":
		reply(answerOK, []byte(os.Getenv("MD_FRAMES")))
	case "fail":
		reply(answerError, []byte("out of "), []byte("milk"))
	case "fail silently":
		reply(answerError)
	case "die":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(3)
	case "die after":
		reply(answerOK, []byte("done"))
		os.Exit(3)
	case "half":
		say(answerOK, 0, 0, 0, 1, 0, 0, 0, 5, 'h', 'e')
		os.Exit(0)
	case "close":
		os.Stdout.Close()
	case "rubbish":
		fmt.Println("<b>Warning</b>")
	case "frames":
		say(answerOK, 0xff, 0xff, 0xff, 0xff)
	case "huge":
		say(answerOK, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff)
	case "twice":
		one := appendFrames([]byte{answerOK}, []byte("one"))
		say(append(one, one...)...) // at once: the next request must not come in between
	case "wait":
		program := osexec.Command("sleep", "1000")
		if err := program.Start(); err != nil {
			panic(err)
		}
		part := string(frames[2]) + ".part"
		_ = os.WriteFile(part, fmt.Appendln(nil, os.Getpid(), program.Process.Pid), 0o600)
		_ = os.Rename(part, string(frames[2]))
		_ = program.Wait()
	}
}

func appendFrames(dst []byte, frames ...[]byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(frames)))
	for _, f := range frames {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// stays is the test's own program.
func stays() Config {
	return Config{Command: []string{"env", "EXEC_TEST_CHILD=1", os.Args[0]}, Persistent: true}
}

// obeyed calls the program and returns its answer.
func obeyed(t *testing.T, cl *client.Client, what string, more ...string) string {
	t.Helper()
	text, err := order(t.Context(), cl, what, more...)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return text
}

func order(ctx context.Context, cl *client.Client, what string, more ...string) (string, error) {
	body := [][]byte{[]byte(what)}
	for _, m := range more {
		body = append(body, []byte(m))
	}
	reply, err := cl.Call(ctx, "run", body...)
	return string(bytes.Join(reply, []byte("|"))), err
}
