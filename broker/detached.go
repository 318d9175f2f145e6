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
}

type detachedEntry struct {
	instance string
	done     bool
	err      *mdp.Error
	body     zsock.Body
	until    int64 // when it is forgotten, once done
}

func (d *detached) open(id mdp.RequestID, who *clientInfo, now int64) *mdp.Error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[id]; e != nil {
		if e.instance != who.instance {
			return mdp.Errorf(mdp.Conflict, "another client uses this request id")
		}
		return mdp.Errorf(mdp.Conflict, "this detached request is known already: ATTACH to it")
	}
	if len(d.entries) >= maxDetached {
		return busy("too many detached requests")
	}
	d.entries[id] = &detachedEntry{instance: who.instance}
	return nil
}

func (d *detached) drop(id mdp.RequestID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[id]; e != nil {
		e.body.Release()
		delete(d.entries, id)
	}
}

func (d *detached) done(id mdp.RequestID, err *mdp.Error, body zsock.Body, now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.entries[id]; e != nil && !e.done {
		e.done, e.err, e.body, e.until = true, err, body.Hold(), now+int64(detachedKeep)
	}
}

// expire forgets answers nobody asked for in time.
func (d *detached) expire(now int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, e := range d.entries {
		if e.done && now > e.until {
			e.body.Release()
			delete(d.entries, id)
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
	if err := c.send(batch, &cmd, body); err != nil {
		c.b.count.answersDropped.Add(1)
	}
}
