package faults

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/test/faults/rig"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

// limit is the largest message by default.
const limit = 64 << 20

// Row 24. Bodies of all sizes up to the limit pass, also those larger than what a
// peer's queue holds otherwise, and the broker's memory grows by the request and its
// answer, which it holds both, and what the process needs: garbage of small buffers.
func TestSizes(t *testing.T) {
	t.Parallel()
	undisturbed(t, func() error {
		b := rig.StartBroker(t)
		p := rig.Pairs(t, b, b.Requests)
		bodies := [][][]byte{nil, {{}}, {{}, {}}}
		for _, size := range []int{1, 255, 256, 8191, 64 << 10, 1 << 20, 9 << 20, 40 << 20, limit - 1000} {
			body := make([]byte, size)
			body[0], body[size-1] = 1, 2
			bodies = append(bodies, [][]byte{body})
		}
		for _, body := range bodies {
			size := len(bytes.Join(body, nil))
			rig.ForgetPeak(t, b.PID())
			before := rig.RSS(t, b.PID())
			o := rig.Do(t.Context(), p.Client, p.Call("echo", body...))
			if o.Err != nil || o.Attempt != 1 || !slices.EqualFunc(o.Rest, body, bytes.Equal) {
				return fmt.Errorf("%d octets: %d frames in attempt %d: %w", size, len(o.Rest), o.Attempt, o.Err)
			}
			const slack = 8 << 20
			grown := rig.Peak(t, b.PID()) - before
			t.Logf("%d octets: the broker grew by %d KiB", size, grown>>10)
			if grown > 2*int64(size)+slack {
				return fmt.Errorf("%d octets: the broker grew by %d", size, grown)
			}
		}
		noBody := p.Call("")
		noBody.Body = nil
		if o := rig.Do(t.Context(), p.Client, noBody); o.Err != nil {
			return o.Err
		}
		calls := uint64(len(bodies) + 1)
		if got := balance(t, b); got != (counts{Requests: calls, Answered: calls}) {
			return fmt.Errorf("the books say %+v", got)
		}
		return nil
	})
}

// Row 24. Beyond the limit the caller is told, whether the request or the answer is
// too large, and the links live on.
func TestTooBig(t *testing.T) {
	t.Parallel()
	const small = 1 << 20
	b := rig.StartBroker(t, "--max-message", "1MiB")
	p := rig.Pairs(t, b, b.Requests)
	answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Victim)
	for what, call := range map[string]client.Call{
		"request": p.Call("echo", make([]byte, small)),
		"answer":  p.Call(fmt.Sprint("size ", small)),
	} {
		_, err := p.Client.Do(t.Context(), call)
		var e *mdp.Error
		if !errors.As(err, &e) || e.Status != mdp.TooBig || e.MayHaveRun != (what == "answer") {
			t.Errorf("%s: %v; want too big", what, err)
		}
		answered(t, rig.Do(t.Context(), p.Client, p.Call("echo")), 1, p.Victim)
	}
	st := b.State(t)
	if n := st.Counters["connections_accepted"]; n != 2 {
		t.Errorf("%d connections were made, want 2: the links did not survive", n)
	}
}

// Row 24. Who announces too much is cut off by the announcement, before the broker
// takes any memory for it.
func TestAnnouncedTooBig(t *testing.T) {
	t.Parallel()
	b := rig.StartBroker(t)
	service := rig.Fresh()
	rig.Worker(t, b.Requests, service)
	load := startLoad(t, b, service, "echo", 1)
	load.some(t, 100)
	before := rig.RSS(t, b.PID())
	announced := []uint64{limit + 1, 1 << 32, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	for _, n := range announced {
		p := raw(t, b)
		if _, err := p.Write(binary.BigEndian.AppendUint64([]byte{2}, n)); err != nil {
			t.Fatal(err)
		}
		_ = p.SetReadDeadline(time.Now().Add(meshproc.Guard))
		if _, err := io.Copy(io.Discard, p); err != nil && !errors.Is(err, io.EOF) && isTimeout(err) {
			t.Errorf("%d octets announced: %v", n, err)
		}
	}
	b.Await(t, "they are counted", func(st broker.State) bool {
		closed := st.Transport[0].Closed
		return closed["too-big"]+closed["protocol"] == uint64(len(announced))
	})
	if grown := rig.RSS(t, b.PID()) - before; grown > 16<<20 {
		t.Errorf("the broker grew by %d KiB", grown>>10)
	}
	load.some(t, 100)
	load.stop(t)
	if load.retried.Load() > 0 {
		t.Error("calls of others were repeated")
	}
}

func isTimeout(err error) bool {
	var e interface{ Timeout() bool }
	return errors.As(err, &e) && e.Timeout()
}
