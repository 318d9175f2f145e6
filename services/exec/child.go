package exec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// stopGrace is how long a child may take to end once its input has.
const stopGrace = 500 * time.Millisecond

// child is one run of a program that stays.
type child struct {
	s       *Service
	asked   bool
	number  uint32 // of the request it was given last, from 1, in frames of version 2
	barren  int    // children before it, in the same place, that have answered nothing
	cmd     *osexec.Cmd
	in, out *os.File
	stderr  *words
	answers chan answer   // what it writes, asked for or not
	gone    chan struct{} // closed when nobody wants answers
	exited  chan struct{} // closed when the process is over; then state is set
	state   error
	readers sync.WaitGroup
}

// spawn starts a child. It must be ended.
func (s *Service) spawn(ctx context.Context) (*child, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", s.cfg.Command[0], err)
	}
	defer theirIn.Close()
	out, theirOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, fmt.Errorf("start %s: %w", s.cfg.Command[0], err)
	}
	defer theirOut.Close()
	said, theirSaid, err := os.Pipe()
	if err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("start %s: %w", s.cfg.Command[0], err)
	}
	defer theirSaid.Close()
	c := &child{
		s: s, in: in, out: out, stderr: newWords(said),
		answers: make(chan answer), gone: make(chan struct{}), exited: make(chan struct{}),
	}
	c.cmd = &osexec.Cmd{
		Path: s.path, Args: s.cfg.Command, Env: append(slices.Clip(s.env), envFrames+"="+strconv.Itoa(s.cfg.Frames)),
		Stdin: theirIn, Stdout: theirOut, Stderr: theirSaid,
		SysProcAttr: attributes(),
	}
	if err := s.start(ctx, c.cmd); err != nil {
		in.Close()
		out.Close()
		said.Close()
		return nil, err
	}
	c.readers.Go(c.stderr.read)
	c.readers.Go(c.wait)
	c.readers.Go(c.read)
	return c, nil
}

// wait waits for the end of the process and its last words, and sees that nobody waits
// longer for descendants that hold its output.
func (c *child) wait() {
	c.state = c.cmd.Wait()
	kill(c.cmd) // what it left behind in its group
	_ = c.out.SetReadDeadline(time.Now().Add(pipeGrace))
	c.stderr.finish(pipeGrace)
	close(c.exited)
}

// read reads answers until there can be no more.
func (c *child) read() {
	r := bufio.NewReader(c.out)
	for {
		a := readAnswer(r, c.s.cfg.Frames, c.s.cfg.MaxReply)
		select {
		case c.answers <- a:
		case <-c.gone:
			return
		}
		if a.err != nil {
			return
		}
	}
}

// errKilled ends a child whose request was over before it had answered.
var errKilled = errors.New("killed with its request")

// serve has the child answer one request. An error says why the child is of no use
// any more; if it lives it must be ended.
func (c *child) serve(j *job) error {
	if c.asked {
		c.stderr.forget() // it was about another request
	}
	c.asked = true
	if c.s.cfg.Frames == Numbered {
		c.number++
	}
	request := appendRequest(nil, c.s.cfg.Frames, c.number, newHeader(j.ctx, j.r), j.r.Body)
	type result struct {
		n   int
		err error
	}
	writing := make(chan result, 1)
	go func() {
		n, err := c.in.Write(request)
		writing <- result{n, err}
	}()
	a, over := c.await(j)
	if over {
		kill(c.cmd)
		_ = c.in.SetWriteDeadline(time.Now())
		<-writing
		c.s.counters.killed.Add(1)
		j.end(nil, context.Cause(j.ctx))
		return errKilled
	}
	// Who has answered has read the request, or will never read the rest.
	_ = c.in.SetWriteDeadline(time.Now().Add(pipeGrace))
	written := <-writing
	_ = c.in.SetWriteDeadline(time.Time{})
	if a.err == nil {
		if a.failed {
			j.end(nil, applicationError(a.frames))
		} else {
			j.end(a.frames, nil)
		}
		if written.err != nil {
			return errHalfRead
		}
		return nil
	}
	err := c.failure(a.err)
	if a.err == io.EOF && written.n == unread(c.in) {
		// It had ended before it knew of the request.
		j.end(nil, c.giveBack(err))
		return err
	}
	j.end(nil, err)
	return err
}

// await waits for the answer and passes on the parts before it. Over says that the
// request was over first.
func (c *child) await(j *job) (a answer, over bool) {
	for {
		select {
		case a = <-c.answers:
		case <-j.ctx.Done():
			return a, true
		}
		switch {
		case a.err != nil:
			return a, false
		case c.drops(a, c.number):
			continue
		case a.number != c.number:
			return answer{err: fmt.Errorf("%w: it is for request %d, the last one was %d", errRubbish, a.number, c.number)}, false
		case !a.part:
			return a, false
		}
		if err := j.r.Partial(j.ctx, a.frames...); err != nil {
			return answer{err: fmt.Errorf("%w: %w", errUnsent, err)}, j.ctx.Err() != nil
		}
	}
}

// drops tells, and counts, what belongs to a request before the one with this number
// and is nobody's business any more: a second answer, or a part behind an answer.
// Without numbers nothing can be told.
func (c *child) drops(a answer, before uint32) bool {
	late := a.err == nil && a.number > 0 && a.number < before
	if late {
		c.s.counters.late.Add(1)
	}
	return late
}

// failure says why there is no answer. It ends the child.
func (c *child) failure(err error) error {
	name := c.s.cfg.Command[0]
	if errors.Is(err, errUnsent) {
		kill(c.cmd)
		return ran(mdp.AppError, "%s: %v", name, err)
	}
	if errors.Is(err, errTooBig) {
		kill(c.cmd)
		return ran(mdp.TooBig, "%s wrote more than %d octets", name, c.s.cfg.MaxReply)
	}
	if errors.Is(err, errRubbish) {
		c.s.counters.rubbish.Add(1)
		kill(c.cmd)
		<-c.exited // then its last words are there
		return failure(name, err, c.stderr.String())
	}
	// It has closed its output: it has ended, or is of no use.
	end := time.NewTimer(stopGrace)
	defer end.Stop()
	select {
	case <-c.exited:
	case <-end.C:
		kill(c.cmd)
		<-c.exited
	}
	return failure(name, c.ending(), c.stderr.String())
}

// ending says how the process has ended.
func (c *child) ending() error {
	if c.state == nil {
		return errors.New("ended without an answer")
	}
	return c.state
}

func applicationError(frames [][]byte) error {
	text := tail{max: stderrKept}
	for _, f := range frames {
		text.Write(f)
	}
	if len(text.buf) == 0 {
		text.Write([]byte("error without a text"))
	}
	return ran(mdp.AppError, "%s", text.String())
}

// end ends the child: its input ends, and if it does not leave, it is killed with its
// group.
func (c *child) end() {
	_ = c.in.Close()
	close(c.gone)
	grace := time.NewTimer(stopGrace)
	defer grace.Stop()
	select {
	case <-c.exited:
	case <-grace.C:
		kill(c.cmd)
	}
	c.readers.Wait()
	_ = c.out.Close()
	_ = c.stderr.pipe.Close()
}

// idle waits, with a child that has nothing to do, for a request or a reason to end.
// It returns neither when ctx ends.
func (c *child) idle(ctx context.Context) (*job, error) {
	for {
		select {
		case j := <-c.s.jobs:
			if a, any := c.waiting(); any { // what it said before must not become the answer
				err := c.unasked(a)
				j.end(nil, c.giveBack(err))
				return nil, err
			}
			return j, nil
		case a := <-c.answers:
			if !c.drops(a, c.number+1) {
				return nil, c.unasked(a)
			}
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// waiting is what a child that has nothing to do has said and was not heard yet.
func (c *child) waiting() (a answer, any bool) {
	for {
		select {
		case a = <-c.answers:
			if !c.drops(a, c.number+1) {
				return a, true
			}
		default:
			return answer{}, false
		}
	}
}

// giveBack is the answer to a request that the child ended without reading: another
// one takes it, unless none can be kept alive.
func (c *child) giveBack(why error) error {
	if c.barren >= hopeless {
		return noChild(why)
	}
	return mdp.Errorf(mdp.NotTaken, "not started")
}

// unasked says why a child that wrote, or ended, without a request is of no use.
func (c *child) unasked(a answer) error {
	if a.err == nil {
		a.err = fmt.Errorf("%w: nobody has asked", errRubbish)
	}
	return c.failure(a.err)
}
