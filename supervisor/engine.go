package supervisor

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// killAgain is how long after a SIGKILL that had no effect the next one follows.
const killAgain = 10 * time.Second

// engine owns all children. Everything in it is touched by run's goroutine only,
// but for the channels.
type engine struct {
	table    *table
	children []*child // in the order of the file
	launcher launcher
	log      hclog.Logger
	random   func(limit time.Duration) time.Duration
	save     func([]note)  // keeps what a next supervisor must know
	turn     func()        // called at each turn of the loop; may be nil
	every    time.Duration // turn at least this often; 0 = as events come
	stopping func()        // called when shutdown begins; may be nil
	bound    time.Duration // how long shutdown may take

	queue   []*child  // to be started, one after the other
	gate    *child    // the last one started of those
	waiters []*waiter // commands whose answer is not ready
	closing *closing  // set once shutdown has begun
	dirty   bool      // the notes changed since save

	commands chan command
	exits    chan ending
	served   chan int      // PIDs of processes that said READY=1
	hurried  chan struct{} // closed: kill all now
	done     chan struct{} // closed when run has ended
	watchers sync.WaitGroup
}

// ending is an exit on its way from the watcher to the engine.
type ending struct {
	child   *child
	process process
	exit    Exit
}

func newEngine(children []*child, launcher launcher, log hclog.Logger) *engine {
	now := time.Now()
	for _, c := range children {
		c.since = now
	}
	return &engine{
		table:    machine(),
		children: children,
		launcher: launcher,
		log:      log,
		random:   fullJitter,
		save:     func([]note) {},
		bound:    defaultStopTimeout,
		commands: make(chan command),
		exits:    make(chan ending),
		served:   make(chan int),
		hurried:  make(chan struct{}),
		done:     make(chan struct{}),
	}
}

// run keeps the children running until ctx ends or shutdown is asked for, then
// stops them and returns nil; or an error that names those it could not stop.
func (e *engine) run(ctx context.Context) error {
	defer e.watchers.Wait()
	defer close(e.done)
	for _, c := range e.children {
		if c.state == Down && !c.held && !c.finished {
			e.queue = append(e.queue, c)
		}
	}
	ended, hurried := ctx.Done(), e.hurried
	for {
		e.settle()
		if e.closing != nil {
			if over, err := e.closed(); over {
				return err
			}
		}
		if e.turn != nil {
			e.turn()
		}
		timer := time.NewTimer(e.untilNext())
		select {
		case <-ended:
			ended = nil
			e.shutdown()
		case <-hurried:
			hurried = nil
			e.killAll()
		case cmd := <-e.commands:
			e.command(cmd)
		case x := <-e.exits:
			if x.child.process == x.process {
				e.handle(x.child, news{event: exited, exit: x.exit})
			}
		case pid := <-e.served:
			e.sayServed(pid)
		case <-timer.C:
			e.expire()
		}
		timer.Stop()
	}
}

// handle is the one way anything happens to a child.
func (e *engine) handle(c *child, n news) {
	e.table[c.state][n.event](e, c, n)
}

// settle does what may follow from an event: the next start in line, answers
// that became ready, and the notes.
func (e *engine) settle() {
	e.startNext()
	e.dropRetired()
	e.answerReady()
	if e.dirty {
		e.saveNotes()
	}
}

// startNext starts the next queued child, one a turn: what happens to those that
// run, and what is asked, is not kept waiting by a long queue.
func (e *engine) startNext() {
	if e.nextMayStart() {
		e.gate, e.queue = e.queue[0], e.queue[1:]
		e.handle(e.gate, news{event: start})
	}
}

// nextMayStart says whether there is one. A child that is starting holds back those
// behind it; one that failed does not.
func (e *engine) nextMayStart() bool {
	return len(e.queue) > 0 && (e.gate == nil || e.gate.state != Starting)
}

// dropRetired forgets children that were taken over, are not in the file, and
// have ended.
func (e *engine) dropRetired() {
	kept := e.children[:0:0]
	for _, c := range e.children {
		if !c.retired || c.state != Down {
			kept = append(kept, c)
		}
	}
	if len(kept) != len(e.children) {
		e.children, e.dirty = kept, true
	}
}

// untilNext returns how long to wait for the earliest timer.
func (e *engine) untilNext() time.Duration {
	const idle = time.Hour
	if e.nextMayStart() {
		return 0
	}
	next := time.Now().Add(idle)
	if e.every > 0 {
		next = time.Now().Add(e.every)
	}
	sooner := func(t time.Time) {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	for _, c := range e.children {
		sooner(c.timer)
	}
	if e.closing != nil {
		sooner(e.closing.next)
		sooner(e.closing.abandon)
	}
	return max(time.Until(next), 0)
}

// expire handles the timers that have come.
func (e *engine) expire() {
	now := time.Now()
	for _, c := range e.children {
		if !c.timer.IsZero() && !c.timer.After(now) {
			c.timer = time.Time{}
			e.handle(c, news{event: timeout})
		}
	}
}

// enter puts c into a state, with no timer set.
func (e *engine) enter(c *child, s State) {
	c.timer = time.Time{}
	if c.state != s {
		c.state, c.since, e.dirty = s, time.Now(), true
	}
	switch s {
	case Fatal:
		e.log.Error("child given up", "child", c.name, "failures", c.failures, "reason", c.reason)
	case Starting, Backoff: // said with what led to it, and what follows
	case Down:
		e.log.Info("child is down", "child", c.name, "reason", c.reason)
	default:
		e.log.Info("child changed state", "child", c.name, "state", s, "pid", c.pid())
	}
}

// spawn starts c's process. The note is on disk before the start, so that a
// supervisor that dies in between leaves a trace to look for.
func (e *engine) spawn(c *child) {
	e.enter(c, Starting)
	c.mark = newMark(c.name)
	e.saveNotes()
	p, err := e.launcher.launch(c)
	if err != nil {
		e.handle(c, news{event: unspawned, err: err})
		return
	}
	c.process, c.started = p, time.Now()
	e.saveNotes()
	e.watch(c)
	e.handle(c, news{event: spawned})
}

// watch starts the watcher of c's process; it ends with the process, or when the
// engine has ended and releases it.
func (e *engine) watch(c *child) {
	p := c.process
	e.watchers.Go(func() {
		exit := p.wait()
		select {
		case e.exits <- ending{c, p, exit}:
		case <-e.done:
		}
	})
}

// forget lets go of a process that is gone.
func (e *engine) forget(c *child) {
	c.process.release()
	c.process, e.dirty = nil, true
}

func (e *engine) signal(c *child, s syscall.Signal) {
	if err := c.process.signal(s); err != nil {
		e.log.Warn("could not signal child", "child", c.name, "pid", c.pid(), "signal", int(s), "error", err)
	}
}

// terminate begins a stop.
func (e *engine) terminate(c *child, then sequel) {
	e.enter(c, Stopping)
	c.then = then
	c.timer = time.Now().Add(c.stopTimeout)
	if e.closing != nil && c.timer.After(e.closing.deadline) {
		c.timer = e.closing.deadline
	}
	e.signal(c, c.stopSignal)
}

// fail decides between another try and giving up.
func (e *engine) fail(c *child, reason string, quick bool) {
	if !quick {
		c.failures = 0
	}
	c.failures++
	c.reason = reason
	if quick && c.maxFailures > 0 && c.failures >= c.maxFailures {
		e.enter(c, Fatal)
		return
	}
	wait := backoff(c.failures, e.random)
	e.log.Warn("child failed", "child", c.name, "reason", reason, "failures", c.failures, "again-in", wait)
	e.enter(c, Backoff)
	c.timer = time.Now().Add(wait)
}

func (e *engine) sayServed(pid int) {
	for _, c := range e.children {
		if c.pid() == pid && c.notifies {
			e.handle(c, news{event: served})
			return
		}
	}
	e.log.Debug("readiness from a process that is no child", "pid", pid)
}

// takeOver gives c a process that an earlier supervisor started. Call it before
// run.
func (e *engine) takeOver(c *child, p process, n note) {
	c.process, c.started = p, n.Since
	c.state, c.since, c.restarts, e.dirty = Up, n.Since, n.Restarts, true
	if n.State == Ready.String() {
		c.state = Ready
	} // else Up: what it said while nobody listened is lost, and no reason to end it
	c.mark, c.held = n.Mark, n.Held
	e.log.Info("child taken over", "child", c.name, "pid", c.pid(), "state", c.state)
	e.watch(c)
	if c.held || c.retired {
		e.handle(c, news{event: stop})
	}
}

// carryOn leaves a child that was given up, finished or stopped by an operator as an
// earlier supervisor had it: to start it again is for people. Call it before run.
func (e *engine) carryOn(c *child, n note) {
	c.since, c.reason, c.finished, e.dirty = n.Since, n.Reason, n.over(c.restart), true
	if n.State == Fatal.String() {
		c.state, c.finished = Fatal, false
	}
	e.log.Info("child stays as it was", "child", c.name, "state", c.state, "reason", c.reason)
}

// letGo ends an engine that has taken over processes and will not run.
func (e *engine) letGo() {
	close(e.done)
	for _, c := range e.children {
		if c.process != nil {
			c.process.release()
		}
	}
	e.watchers.Wait()
}
