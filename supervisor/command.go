package supervisor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// What a command can fail with, beside what its children did. Over the socket
// they travel as Response.Code.
var (
	// ErrUnknownChild means that a name matches no child.
	ErrUnknownChild = errors.New("unknown child")
	// ErrClosing means that the supervisor is about to end and starts nothing.
	ErrClosing = errors.New("the supervisor is shutting down")
	// ErrNotStarted means that a child that was to run does not.
	ErrNotStarted = errors.New("not started")
)

// Op is what is asked of a supervisor.
type Op string

// The operations. Each but status answers when it is done: started (or failed
// to), stopped, shut down, in line with the file.
const (
	OpStatus   Op = "status"
	OpStart    Op = "start"
	OpStop     Op = "stop"
	OpRestart  Op = "restart"
	OpShutdown Op = "shutdown"
	OpReload   Op = "reload" // read the file again; it takes no names
)

// command is an operation on its way to the engine. reply has room for one.
type command struct {
	op    Op
	names []string
	reply chan reply

	// Of a reload: what the file says now, and what starts it.
	fresh    []*child
	launcher launcher
}

type reply struct {
	children []ChildStatus
	err      error
}

// waiter is a command whose children have not come to rest.
type waiter struct {
	op       Op
	children []*child
	reply    chan reply
}

// do asks the engine and blocks for the answer, until ctx ends (the command then
// goes on without its caller).
func (e *engine) do(ctx context.Context, op Op, names []string) ([]ChildStatus, error) {
	return e.ask(ctx, command{op: op, names: names})
}

// ask is do for a command that is put together.
func (e *engine) ask(ctx context.Context, cmd command) ([]ChildStatus, error) {
	cmd.reply = make(chan reply, 1)
	select {
	case e.commands <- cmd:
	case <-e.done:
		return nil, ErrClosing
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case r := <-cmd.reply:
		return r.children, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-e.done:
		select { // the answer may have been the engine's last act
		case r := <-cmd.reply:
			return r.children, r.err
		default:
			return nil, ErrClosing
		}
	}
}

// command begins an operation; the answer follows when its children are at rest.
func (e *engine) command(cmd command) {
	chosen, err := choose(e.children, cmd.names)
	switch {
	case err != nil:
	case e.closing != nil && (cmd.op == OpStart || cmd.op == OpRestart || cmd.op == OpReload):
		err = ErrClosing
	case !slices.Contains([]Op{OpStatus, OpStart, OpStop, OpRestart, OpShutdown, OpReload}, cmd.op):
		err = fmt.Errorf("%w: unknown operation %q", ErrRequest, cmd.op)
	}
	if err != nil {
		cmd.reply <- reply{err: err}
		return
	}
	switch cmd.op {
	case OpStart:
		e.begin(chosen)
	case OpStop:
		e.unqueue(chosen)
		for _, c := range slices.Backward(chosen) {
			c.held, e.dirty = true, true
			e.handle(c, news{event: stop})
		}
	case OpRestart:
		e.unqueue(chosen)
		for _, c := range chosen {
			c.held, e.dirty = false, true
			e.handle(c, news{event: restart})
		}
	case OpShutdown:
		e.shutdown()
	case OpReload:
		e.launcher = cmd.launcher
		chosen = e.reload(cmd.fresh)
	}
	e.waiters = append(e.waiters, &waiter{op: cmd.op, children: chosen, reply: cmd.reply})
}

// begin starts children in the order of the file.
func (e *engine) begin(chosen []*child) {
	for _, c := range chosen {
		c.held, e.dirty = false, true
		switch {
		case slices.Contains(e.queue, c):
		case c.state == Stopping:
			e.handle(c, news{event: start})
		case c.process == nil:
			e.queue = append(e.queue, c)
		}
	}
}

func (e *engine) unqueue(chosen []*child) {
	e.queue = slices.DeleteFunc(e.queue, func(c *child) bool { return slices.Contains(chosen, c) })
}

// answerReady answers the commands whose children have come to rest.
func (e *engine) answerReady() {
	e.waiters = slices.DeleteFunc(e.waiters, func(w *waiter) bool {
		for _, c := range w.children {
			if !e.atRest(w.op, c) {
				return false
			}
		}
		w.reply <- w.answer()
		return true
	})
}

func (e *engine) atRest(op Op, c *child) bool {
	switch op {
	case OpStart, OpRestart, OpReload:
		return c.state != Starting && c.state != Stopping && !slices.Contains(e.queue, c)
	case OpStop, OpShutdown:
		return c.process == nil || op == OpStop && c.state != Stopping
	default:
		return true
	}
}

func (w *waiter) answer() reply {
	r := reply{children: make([]ChildStatus, 0, len(w.children))}
	var failed []string
	for _, c := range w.children {
		r.children = append(r.children, c.status())
		if (w.op == OpStart || w.op == OpRestart || w.op == OpReload) && c.process == nil && !c.retired {
			failed = append(failed, fmt.Sprintf("%s is %s: %s", c.name, c.state, c.reason))
		}
	}
	if len(failed) > 0 {
		r.err = fmt.Errorf("%w: %s", ErrNotStarted, strings.Join(failed, "; "))
	}
	return r
}

// choose returns the children that names mean, in the order of the file: NAME,
// GROUP:*, all; no names mean all.
func choose(children []*child, names []string) ([]*child, error) {
	if len(names) == 0 {
		return slices.Clone(children), nil
	}
	var chosen []*child
	for _, name := range names {
		found := false
		group, isGroup := strings.CutSuffix(name, ":*")
		for _, c := range children {
			if name != "all" && c.name != name && !(isGroup && c.group == group) {
				continue
			}
			found = true
			if !slices.Contains(chosen, c) {
				chosen = append(chosen, c)
			}
		}
		if !found {
			return nil, fmt.Errorf("%w %q; there are %s", ErrUnknownChild, name, known(children))
		}
	}
	slices.SortFunc(chosen, func(a, b *child) int { return slices.Index(children, a) - slices.Index(children, b) })
	return chosen, nil
}

// known lists what can be named, groups in short: "broker, echo:* (4), all".
func known(children []*child) string {
	count := map[string]int{}
	for _, c := range children {
		count[c.group]++
	}
	var words []string
	listed := map[string]bool{}
	for _, c := range children {
		word := c.name
		if c.name != c.group {
			if listed[c.group] {
				continue
			}
			listed[c.group] = true
			word = fmt.Sprintf("%s:* (%d)", c.group, count[c.group])
		}
		words = append(words, word)
	}
	const most = 20
	if more := len(words) - most; more > 0 {
		words = append(words[:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(append(words, "all"), ", ")
}
