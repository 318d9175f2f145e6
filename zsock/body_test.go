package zsock

import (
	"bytes"
	"errors"
	"testing"
)

func TestBodies(t *testing.T) {
	t.Parallel()
	if b := NewBody(); b.Frames() != 0 || b.Size() != 0 || b.Append(nil) != nil || b.Hold().owned {
		t.Errorf("empty body %+v", b)
	}
	Body{}.Release()
	large := bytes.Repeat([]byte("l"), 20_000)
	b := NewBody([]byte("one"), nil, large)
	if b.Frames() != 3 || b.Size() != 20_003 {
		t.Errorf("%d frames, %d octets", b.Frames(), b.Size())
	}
	again := b.Hold()
	b.Release()
	if views := again.Append([][]byte{[]byte("before")}); len(views) != 4 || string(views[1]) != "one" || len(views[2]) != 0 || !bytes.Equal(views[3], large) {
		t.Errorf("views %.40q", views)
	}
	again.Release()

	wire := append(append(frame(1, "head"), frame(1, "a")...), frame(0, "bc")...)
	s := scanner{maxMessage: 100, maxFrames: 10}
	if found, err := s.scan(wire); found != whole || err != nil {
		t.Fatal(found, err)
	}
	var m Msg
	m.set(wire, nil, s.spans, s.size)
	for i, want := range []struct{ frames, size int }{{3, 7}, {2, 3}, {1, 2}, {0, 0}} {
		if b := m.Body(i); b.Frames() != want.frames || b.Size() != want.size || b.owned {
			t.Errorf("body %d: %d frames, %d octets", i, b.Frames(), b.Size())
		}
	}
	if b := m.Body(-1); b.Frames() != 0 {
		t.Error("body -1 has frames")
	}
	held := m.Body(1).Hold()
	copy(wire, make([]byte, len(wire))) // the read buffer is used for something else
	if views := held.Append(nil); len(views) != 2 || string(views[0]) != "a" || string(views[1]) != "bc" {
		t.Errorf("held %q", views)
	}
	held.Release()
}

func TestReleasedTwicePanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if recover() == nil {
			t.Error("a body that is released twice corrupts others: it must not pass")
		}
	}()
	s := &slab{class: 0}
	s.refs.Store(1)
	s.refs.Add(-1)
	s.release()
}

func TestReasonNames(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"other": errors.New("x"), "peer-closed": classify(ErrPeerClosed), "version": classify(ErrVersion),
		"too-big": ErrTooBig, "closed": ErrClosed,
	} {
		if got := reasonName(err); got != want {
			t.Errorf("%v is %q, want %q", err, got, want)
		}
	}
}
