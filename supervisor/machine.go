package supervisor

import (
	"fmt"
	"slices"
	"syscall"
	"time"
)

// State is where a child is in its life.
type State uint8

// The states. Running is starting, up, ready or stopping: a process is there.
const (
	Down     State = iota // not running and not wanted, or not yet its turn
	Starting              // started; with ready = "notify" until it says so
	Up                    // runs
	Ready                 // runs and said that it serves
	Stopping              // told to end, not gone yet
	Backoff               // failed; starts again when its wait is over
	Fatal                 // failed too often; starts again only when told to
	states
)

var stateNames = [states]string{"down", "starting", "up", "ready", "stopping", "backoff", "fatal"}

func (s State) String() string {
	if s < states {
		return stateNames[s]
	}
	return fmt.Sprintf("state(%d)", uint8(s))
}

// event is what can happen to a child.
type event uint8

const (
	start     event = iota // asked to run
	stop                   // asked to end
	restart                // asked to end and run again
	spawned                // its process was started
	unspawned              // its process could not be started
	served                 // it said READY=1
	exited                 // its process is gone
	timeout                // child.timer has come
	events
)

var eventNames = [events]string{"start", "stop", "restart", "spawned", "unspawned", "served", "exited", "timeout"}

func (e event) String() string { return eventNames[e] }

// table says what to do for each state and event.
type table [states][events]action

// machine returns the whole behaviour. No pair is left out; never marks those
// that cannot come. (A func, because the actions come back to the table.)
func machine() *table {
	return &table{
		//         start    stop     restart  spawned unspawned served  exited  timeout
		Down:     {launch, ignore, launch, never, never, ignore, never, ignore},
		Starting: {ignore, end, endAgain, begin, miss, serve, gone, giveUp},
		Up:       {ignore, end, endAgain, never, never, serve, gone, ignore},
		Ready:    {ignore, end, endAgain, never, never, ignore, gone, ignore},
		Stopping: {again, noMore, again, never, never, ignore, finish, kill},
		Backoff:  {launch, rest, launch, never, never, ignore, never, relaunch},
		Fatal:    {launch, rest, launch, never, never, ignore, never, ignore},
	}
}

// action does what an event asks for. It runs in the engine's goroutine, sets
// the child's new state, and must not block.
type action func(e *engine, c *child, n news)

// news is one event and what comes with it: exit with exited, err with unspawned.
type news struct {
	event event
	exit  Exit
	err   error
}

// sequel is what follows when a stopping child is gone.
type sequel uint8

const (
	thenDown  sequel = iota
	thenStart        // restart
	thenFail         // it was stopped because its start failed
)

func ignore(*engine, *child, news) {}

func never(e *engine, c *child, n news) {
	e.log.Error("event that cannot come in this state", "child", c.name, "state", c.state, "event", n.event)
}

// launch is a start by someone's wish: past failures are forgotten.
func launch(e *engine, c *child, _ news) {
	c.failures, c.reason, c.finished = 0, "", false
	e.spawn(c)
}

// relaunch is a start after a failure.
func relaunch(e *engine, c *child, _ news) {
	c.restarts++
	e.spawn(c)
}

func begin(e *engine, c *child, _ news) {
	if !c.notifies {
		e.enter(c, Up)
		return
	}
	c.timer = time.Now().Add(c.startTimeout)
}

func serve(e *engine, c *child, _ news) {
	e.enter(c, Ready)
}

func miss(e *engine, c *child, n news) { e.fail(c, n.err.Error(), true) }

func giveUp(e *engine, c *child, _ news) {
	c.reason = fmt.Sprintf("did not say READY=1 within %v", c.startTimeout)
	e.terminate(c, thenFail)
}

func end(e *engine, c *child, _ news)      { e.terminate(c, thenDown) }
func endAgain(e *engine, c *child, _ news) { e.terminate(c, thenStart) }

func again(_ *engine, c *child, _ news)  { c.then = thenStart }
func noMore(_ *engine, c *child, _ news) { c.then = thenDown }

// kill is for a child that did not end in its time, and again for one that hangs
// in the kernel so that even SIGKILL has not ended it yet.
func kill(e *engine, c *child, _ news) {
	e.log.Warn("child did not stop in time, killing its group", "child", c.name, "pid", c.pid())
	e.signal(c, syscall.SIGKILL)
	c.timer = time.Now().Add(killAgain)
}

// finish ends a stop.
func finish(e *engine, c *child, _ news) {
	e.forget(c)
	if c.then != thenFail {
		c.reason = "stopped"
	}
	switch c.then {
	case thenStart:
		launch(e, c, news{})
	case thenFail:
		e.fail(c, c.reason, true)
	default:
		e.enter(c, Down)
	}
}

// rest ends the wait of a child that is not running.
func rest(e *engine, c *child, _ news) { e.enter(c, Down) }

// gone is an end that nobody asked for.
func gone(e *engine, c *child, n news) {
	quick := time.Since(c.started) < c.minUptime
	e.forget(c)
	c.reason = n.exit.String()
	switch {
	case c.restart == Temporary, c.restart == Transient && n.exit.clean():
		c.finished = true
		e.enter(c, Down)
	case slices.Contains(c.fatalExits, n.exit.Code):
		c.failures++
		e.enter(c, Fatal)
	default:
		e.fail(c, c.reason, quick)
	}
}
