package supervisor

import (
	"fmt"
	"strings"
	"syscall"
	"time"
)

// closing is a shutdown on its way.
type closing struct {
	steps    [][]*child // still to be told, last of the file first; one step per [[child]]
	current  []*child   // told last
	slice    time.Duration
	next     time.Time // when the next step is told even if this one still runs
	deadline time.Time // when what still runs is killed
	abandon  time.Time // when waiting makes no sense any more
}

// abandonAfter is how long a killed process may take to be gone.
const abandonAfter = time.Second

// shutdown begins to stop everything, in reverse order: a step is told when the
// one before is down, or has used its share of half the time. The other half is
// for the last one, and at the end the rest is killed.
func (e *engine) shutdown() {
	if e.closing != nil {
		return
	}
	e.log.Info("stopping all children", "within", e.bound)
	if e.stopping != nil {
		e.stopping()
	}
	e.queue = nil
	now := time.Now()
	cl := &closing{next: now, deadline: now.Add(e.bound), abandon: now.Add(e.bound + abandonAfter)}
	for i := len(e.children) - 1; i >= 0; i-- {
		c := e.children[i]
		if last := len(cl.steps) - 1; last >= 0 && cl.steps[last][0].entry == c.entry {
			cl.steps[last] = append(cl.steps[last], c)
		} else {
			cl.steps = append(cl.steps, []*child{c})
		}
	}
	cl.slice = e.bound / 2 / time.Duration(max(len(cl.steps), 1))
	e.closing = cl
	for _, c := range e.children {
		switch {
		case c.process == nil:
			e.handle(c, news{event: stop})
		case c.state == Stopping:
			e.handle(c, news{event: stop})
			if c.timer.After(cl.deadline) {
				c.timer = cl.deadline
			}
		}
	}
}

// closed moves the shutdown on, and says when it is over.
func (e *engine) closed() (over bool, err error) {
	cl, now := e.closing, time.Now()
	for len(cl.steps) > 0 && (allDown(cl.current) || !now.Before(cl.next)) {
		cl.current, cl.steps = cl.steps[0], cl.steps[1:]
		cl.next = now.Add(cl.slice)
		for _, c := range cl.current {
			e.handle(c, news{event: stop})
		}
	}
	if len(cl.steps) == 0 {
		cl.next = time.Time{}
		if allDown(e.children) {
			e.settle()
			return true, nil
		}
	}
	if now.Before(cl.abandon) {
		return false, nil
	}
	var left []string
	for _, c := range e.children {
		if c.process != nil {
			left = append(left, fmt.Sprintf("%s (pid %d)", c.name, c.pid()))
			c.process.release()
		}
	}
	return true, fmt.Errorf("still running after SIGKILL: %s", strings.Join(left, ", "))
}

func allDown(children []*child) bool {
	for _, c := range children {
		if c.process != nil {
			return false
		}
	}
	return true
}

// killAll ends the shutdown now.
func (e *engine) killAll() {
	e.shutdown()
	now := time.Now()
	e.closing.next, e.closing.deadline, e.closing.abandon = now, now, now.Add(abandonAfter)
	e.closing.slice = 0
	for _, c := range e.children {
		if c.process != nil {
			e.handle(c, news{event: stop})
			e.signal(c, syscall.SIGKILL)
			c.timer = now.Add(killAgain)
		}
	}
}
