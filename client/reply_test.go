package client_test

import (
	"bytes"
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/mdp"
)

// largeOf is a body that is released by reference.
func largeOf(octet byte) []byte { return bytes.Repeat([]byte{octet}, 64<<10) }

func isAll(frames [][]byte, octet byte) bool {
	return len(frames) == 1 && len(frames[0]) == 64<<10 && bytes.Count(frames[0], []byte{octet}) == 64<<10
}

// What is released is read into again, and nothing else is: answers that are kept
// stay as they are, whatever comes.
func TestReleasedMemoryIsUsedAgain(t *testing.T) {
	c := withMirror(t)
	do := func(octet byte) *client.Reply {
		reply, err := c.Do(t.Context(), client.Call{Service: "echo", Body: [][]byte{largeOf(octet)}})
		if err != nil || !isAll(reply.Body, octet) {
			t.Fatalf("not the answer: %v", err)
		}
		return reply
	}
	kept := map[*byte]*client.Reply{}
	for range 20 {
		reply := do('k')
		kept[&reply.Body[0][0]] = reply
	}
	for range 100 {
		body, err := c.Call(t.Context(), "echo", largeOf('k')) // cannot be released
		if err != nil || kept[&body[0][0]] != nil {
			t.Fatalf("an answer lies in the memory of another (%v)", err)
		}
		kept[&body[0][0]] = &client.Reply{Body: body}
	}
	released, again := map[*byte]bool{}, 0
	for range 300 { // the race detector makes pools forget
		reply := do('r')
		at := &reply.Body[0][0]
		if kept[at] != nil {
			t.Fatal("an answer lies in memory that was not released")
		}
		if released[at] {
			again++
		}
		released[at] = true
		reply.Release()
		if reply.Body != nil {
			t.Fatal("a released Reply has a body")
		}
	}
	if again == 0 {
		t.Error("no memory is used again")
	}
	for _, reply := range kept {
		if !isAll(reply.Body, 'k') {
			t.Fatal("an answer has changed that was not released")
		}
	}
}

// Memory is given back once, however often and by whomever.
func TestReleaseTwice(t *testing.T) {
	c := withMirror(t)
	reply, err := c.Do(t.Context(), client.Call{Service: "echo", Body: [][]byte{largeOf('a')}})
	if err != nil {
		t.Fatal(err)
	}
	other := *reply
	var wg sync.WaitGroup
	wg.Go(reply.Release)
	wg.Go(other.Release)
	wg.Wait()
	reply.Release()
	(*client.Reply)(nil).Release()
	var held []*client.Reply
	for i := range 50 { // memory that was given back twice would be two answers at once
		reply, err := c.Do(t.Context(), client.Call{Service: "echo", Body: [][]byte{largeOf(byte(i))}})
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, reply)
	}
	for i, reply := range held {
		if !isAll(reply.Body, byte(i)) {
			t.Fatal("two answers share memory")
		}
		reply.Release()
	}
}

// Many callers that release, leave early and never release, at once.
func TestReleaseUnderLoad(t *testing.T) {
	c := withMirror(t)
	var wg sync.WaitGroup
	for lane := range 16 {
		wg.Go(func() {
			octet := byte('a' + lane)
			call := client.Call{Service: "echo", Body: [][]byte{largeOf(octet)}}
			for n := range 50 {
				ctx, cancel := context.WithCancel(t.Context())
				if n%5 == 4 {
					go cancel() // before, while or after the answer comes
				}
				reply, err := c.Do(ctx, call)
				if err == nil && !isAll(reply.Body, octet) {
					t.Error("not the answer")
				}
				if n%3 > 0 {
					reply.Release()
				}
				cancel()
			}
		})
	}
	wg.Wait()
}

func TestReleaseOfPartials(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		done := m.do(t.Context(), client.Call{Service: "echo", Restartable: true})
		r := m.request(0)
		r.Answer(mdp.Partial, largeOf('x')) // of an attempt that is overtaken
		r.Head.Attempt = 2
		r.Answer(mdp.Partial, largeOf('a'))
		r.Answer(mdp.Partial, []byte("small"))
		r.Answer(mdp.Partial, largeOf('b'))
		r.Answer(mdp.Final, largeOf('c'))
		o := <-done
		if o.err != nil || len(o.reply.Partials) != 3 {
			t.Fatalf("%v", o.err)
		}
		p := o.reply.Partials
		if !isAll(p[0], 'a') || string(p[1][0]) != "small" || !isAll(p[2], 'b') || !isAll(o.reply.Body, 'c') {
			t.Error("the answer is not what was sent")
		}
		o.reply.Release()
		if o.reply.Partials != nil {
			t.Error("a released Reply has partials")
		}
		o.reply.Release()
	})
}

// What nobody gets is given back by the client: once, and not to those who wait.
func TestReleaseOfWhatNobodyGets(t *testing.T) {
	inBubble(t, 1, func(t *testing.T, m *mesh) {
		ctx, cancel := context.WithCancel(t.Context())
		early := m.do(ctx, echoCall)
		r := m.request(0)
		r.Answer(mdp.Partial, largeOf('e'))
		synctest.Wait()
		cancel()
		(<-early).mustFail(t, mdp.Cancelled, true)
		failing := m.do(t.Context(), echoCall)
		m.brokers[0].Expect(mdp.Cancel)
		f := m.brokers[0].Expect(mdp.Request)
		f.Answer(mdp.Partial, largeOf('f'))
		f.Fail(mdp.Errorf(mdp.AppError, "disk full"))
		(<-failing).mustFail(t, mdp.AppError, false)
		r.Answer(mdp.Partial, largeOf('l'))
		r.Answer(mdp.Final, largeOf('l'))
		synctest.Wait()
		if n := m.Counters().Late; n != 2 {
			t.Errorf("%d late answers, want 2", n)
		}
		done := [2]<-chan outcome{}
		for i := range done {
			done[i] = m.do(t.Context(), echoCall)
			m.brokers[0].Expect(mdp.Request).Answer(mdp.Final, largeOf(byte(i)))
		}
		for i := range done {
			o := <-done[i]
			if o.err != nil || !isAll(o.reply.Body, byte(i)) {
				t.Errorf("not the answer: %v", o.err)
			}
			o.reply.Release()
		}
	})
}

// A retry's answer is released like any other, and Go's.
func TestReleaseAfterRetry(t *testing.T) {
	oneThenTwo(t, func(t *testing.T, m *mesh) {
		p := m.Go(t.Context(), echoCall, nil)
		m.brokers[0].Expect(mdp.Request)
		m.brokers[0].Stop()
		m.brokers[1].Expect(mdp.Request).Answer(mdp.Final, largeOf('a'))
		<-p.Done()
		if p.Err != nil || !isAll(p.Reply.Body, 'a') || p.Reply.Attempt != 2 {
			t.Fatalf("%v", p.Err)
		}
		p.Reply.Release()
	})
}
