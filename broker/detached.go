package broker

import (
	"sync"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// detached remembers requests that go on without their client, so that the same
// instance can ask for the answer over a new connection. It is off the path of
// ordinary requests; its mutex is taken last of all.
type detached struct {
	mu      sync.Mutex
	entries map[mdp.RequestID]*detachedEntry
	of      map[string]int // entries by the client's instance
	kept    int64          // memory of all answers, in octets
}

type detachedEntry struct {
	instance string
	done     bool
	err      *mdp.Error
	body     zsock.Body
	until    int64 // when it is forgotten, once done
}

func (d *detached) init() {
	d.entries, d.of = make(map[mdp.RequestID]*detachedEntry), make(map[string]int)
}

// open makes an entry, or says why not.
func (d *detached) open(id mdp.RequestID, who *clientInfo) *mdp.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[id]; e != nil {
		if e.instance != who.instance {
			return mdp.Errorf(mdp.Conflict, "another client uses this request id")
		}
		return mdp.Errorf(mdp.Conflict, "this detached request is known already: ATTACH to it")
	}
	if len(d.entries) >= maxDetached || d.of[who.instance] >= maxDetachedOf {
		return busy("too many detached requests")
	}
	d.entries[id] = &detachedEntry{instance: who.instance}
	d.of[who.instance]++
	return nil
}

// drop forgets an entry, whatever its state.
func (d *detached) drop(id mdp.RequestID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dropLocked(id, d.entries[id])
}

func (d *detached) dropLocked(id mdp.RequestID, e *detachedEntry) {
	if e != nil {
		d.kept -= int64(e.body.Cost())
		e.body.Release()
		delete(d.entries, id)
		if d.of[e.instance]--; d.of[e.instance] == 0 {
			delete(d.of, e.instance)
		}
	}
}

// done keeps the answer, or, when answers take too much room, an error in its place.
func (d *detached) done(id mdp.RequestID, err *mdp.Error, body zsock.Body, now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e := d.entries[id]
	if e == nil || e.done {
		return
	}
	e.done, e.err, e.until = true, err, now+int64(detachedKeep)
	if d.kept+int64(body.Cost()) > maxKept {
		e.err = &mdp.Error{Status: mdp.NoSpace, Text: "the answer was not kept: too many are waiting to be fetched", MayHaveRun: true}
		return
	}
	e.body = body.Hold()
	d.kept += int64(e.body.Cost())
}

// expire forgets answers nobody asked for in time.
func (d *detached) expire(now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, e := range d.entries {
		if e.done && now > e.until {
			d.dropLocked(id, e)
		}
	}
}

// attach answers ATTACH: the kept answer, RUNNING or UNKNOWN.
func (c *conn) attach(batch *zsock.Batch) {
	cmd := mdp.Command{Role: mdp.Client, Kind: mdp.Final, Dialect: mdp.Native, Head: mdp.Head{Token: c.cmd.Head.Token, ID: c.cmd.Head.ID}}
	d := &c.b.detached
	d.mu.Lock()
	defer d.mu.Unlock()
	who, e := c.client.Load(), d.entries[c.cmd.Head.ID]
	var body zsock.Body
	switch {
	case e == nil || who == nil || e.instance != who.instance:
		cmd.SetError(mdp.Errorf(mdp.Unknown, "no such detached request of this client"))
	case !e.done:
		cmd.SetError(mdp.Errorf(mdp.Running, "not answered yet"))
	case e.err != nil:
		cmd.SetError(e.err)
	default:
		body = e.body
	}
	c.reply(batch, &cmd, body)
}
