package broker

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// link is the connection to one other broker. It is symmetric: whoever dialled,
// both directions use it, and there is one per pair.
type link struct {
	b       *Broker
	c       *conn
	dialled string // the endpoint, if this side dialled

	rtt      atomic.Int64 // round trip in ns, measured by the heartbeat
	peer     atomic.Pointer[mdp.HelloMap]
	draining atomic.Bool  // the peer said DRAIN: it is sent nothing new
	down     atomic.Bool  // set before its routes are dropped: it gets no new ones
	heard    atomic.Int64 // broker clock, as the ticker last saw it

	lastEvent uint64 // sequence of the peer's last event; of the reader goroutine
	lastBeat  int64  // of the ticker goroutine

	// The following are written by the link's reader goroutine, except that a newer
	// link clears up, and guarded by Broker.mu.
	up    bool
	since int64
}

// LinkState is one link as listings show it.
type LinkState struct {
	Name     string `json:"name"`
	Endpoint string `json:"endpoint"`
	State    string `json:"state"` // up or down
	Dialled  bool   `json:"dialled"`
	SinceMs  int64  `json:"since_ms"` // in this state
	Error    string `json:"error,omitempty"`
	RTTUs    int64  `json:"rtt_us"`
}

// peerName is the other broker's name, or its endpoint while that is unknown.
func (l *link) peerName() string {
	if h := l.peer.Load(); h != nil {
		return h.Name
	}
	return l.dialled
}

// updateEvery is how often the peer sends updates at most, by its own word.
func (l *link) updateEvery() time.Duration {
	if h := l.peer.Load(); h != nil && h.UpdateMs > 0 {
		return time.Duration(h.UpdateMs) * time.Millisecond
	}
	return updateInterval
}

// dialPeer keeps one configured link up until ctx ends.
func (b *Broker) dialPeer(ctx context.Context, endpoint string) {
	backoff := zsock.Backoff{}
	last := ""
	for ctx.Err() == nil {
		began := b.now()
		err := b.runLink(ctx, endpoint)
		if ctx.Err() != nil {
			return
		}
		if errors.Is(err, errSelf) {
			b.log.Error("peer link refused: the endpoint leads to this broker itself; remove it from --peer", "endpoint", endpoint)
			b.setPeerError(endpoint, err)
			return
		}
		b.setPeerError(endpoint, err)
		if text := err.Error(); text != last && !errors.Is(err, errDuplicate) {
			last = text
			b.log.Warn("peer link down", "endpoint", endpoint, "error", err)
		}
		if b.now()-began > int64(10*time.Second) {
			backoff.Reset()
			last = ""
		}
		if !b.sleepUnlinked(ctx, endpoint, backoff.Next()) {
			return
		}
	}
}

// sleepUnlinked waits for d, and longer while the peer is linked by its own dialling.
func (b *Broker) sleepUnlinked(ctx context.Context, endpoint string, d time.Duration) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
		}
		if !b.linkedBy(endpoint) {
			return true
		}
		d = time.Second
	}
}

// Reasons for which a link may not be.
var (
	errSelf      = errors.New("the endpoint leads to this broker itself")
	errDuplicate = errors.New("second link to the same broker")
	errManyLinks = errors.New("too many links")
	errTwin      = errors.New("another broker of the same name is linked: give each its own --name")
	errDeaf      = errors.New("the peer does not hear us")
)

// runLink dials and serves one link until it ends.
func (b *Broker) runLink(ctx context.Context, endpoint string) error {
	l := &link{b: b, dialled: endpoint}
	l.c = &conn{}
	l.c.link.Store(l)
	dialCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
	z, err := zsock.Dial(dialCtx, endpoint, b.socketConfig(zsock.Dealer), b)
	cancel()
	if err != nil {
		return err
	}
	z.User = l.c
	return z.Run(ctx)
}

// opened says hello on a link this side dialled.
func (l *link) opened() {
	var batch zsock.Batch
	l.c.sendControl(&batch, &mdp.Command{Role: mdp.Peer, Kind: mdp.Hello, Map: mdp.EncodeMap(l.b.hello())})
	batch.Flush()
}

// hello is this broker's word about itself to a peer.
func (b *Broker) hello() *mdp.HelloMap {
	return &mdp.HelloMap{Instance: b.incarnation, Name: b.name, Incarnation: b.incarnation, Revision: mdp.Revision,
		UpdateMs: int(b.updateEvery() / time.Millisecond), Advertise: b.cfg.Advertise}
}

// fromPeer handles one command of a peer link.
func (c *conn) fromPeer(batch *zsock.Batch, m *zsock.Msg) {
	l := c.link.Load()
	switch c.cmd.Kind {
	case mdp.Hello:
		c.acceptLink(batch)
		return
	case mdp.Welcome:
		if l != nil {
			l.welcomed(batch)
		}
		return
	}
	if l == nil || l.peer.Load() == nil {
		c.b.count.protocolErrors.Add(1)
		c.z.Close(errProtocol)
		return
	}
	switch c.cmd.Kind {
	case mdp.Request:
		c.request(batch, m)
	case mdp.Partial, mdp.Final:
		l.answer(batch, m)
	case mdp.Cancel:
		c.cancel(batch)
	case mdp.State:
		l.hearState(batch, m)
	case mdp.Event:
		l.event(batch, m)
	case mdp.Heartbeat:
		l.beat(batch)
	case mdp.Drain:
		l.draining.Store(true)
	case mdp.Bye:
		c.z.Close(errBye)
	}
}

// acceptLink answers the HELLO of a broker that dialled us.
func (c *conn) acceptLink(batch *zsock.Batch) {
	var hello mdp.HelloMap
	if err := mdp.DecodeMap(c.cmd.Map, &hello); err != nil || hello.Name == "" || hello.Incarnation == "" || len(hello.Name) > mdp.MaxService || c.link.Load() != nil {
		c.b.count.protocolErrors.Add(1)
		c.z.Close(errProtocol)
		return
	}
	l := &link{b: c.b, c: c}
	cmd := mdp.Command{Role: mdp.Peer, Kind: mdp.Welcome, Service: []byte(c.b.name)} // the name also where it is refused
	if err := c.b.establish(l, &hello); err != nil {
		cmd.SetError(refusal(err))
		c.sendControl(batch, &cmd)
		c.z.CloseAfterFlush(err)
		return
	}
	c.link.Store(l)
	cmd.Map = mdp.EncodeMap(c.b.hello())
	c.sendControl(batch, &cmd)
	c.b.tellEverything(batch, l)
}

// refusal is what a peer is told whose link may not be.
func refusal(err error) *mdp.Error {
	if errors.Is(err, errSelf) || errors.Is(err, errDuplicate) {
		return mdp.Errorf(mdp.Conflict, "%v", err)
	}
	return mdp.Errorf(mdp.NotTaken, "%v", err)
}

// refused takes a WELCOME that denies the link.
func (l *link) refused(err *mdp.Error) {
	switch name := string(l.c.cmd.Service); {
	case err.Status == mdp.Conflict && err.Text == errSelf.Error():
		l.c.z.Close(errSelf)
	case err.Status == mdp.Conflict:
		l.b.mu.Lock()
		l.b.linkedTo(l.dialled, name)
		l.b.mu.Unlock()
		l.c.z.Close(errDuplicate)
	default:
		l.c.z.Close(err)
	}
}

// welcomed takes the answer to our HELLO.
func (l *link) welcomed(batch *zsock.Batch) {
	if err, denied := mdp.AnswerError(&l.c.cmd).(*mdp.Error); denied {
		l.refused(err)
		return
	}
	var hello mdp.HelloMap
	if err := mdp.DecodeMap(l.c.cmd.Map, &hello); err != nil || hello.Name == "" || l.peer.Load() != nil {
		l.b.count.protocolErrors.Add(1)
		l.c.z.Close(errProtocol)
		return
	}
	if err := l.b.establish(l, &hello); err != nil {
		l.c.z.Close(err)
		return
	}
	l.b.tellEverything(batch, l)
}

// establish enters a link, or says why it may not be. Where both sides dialled,
// the link dialled by the broker with the smaller name stays.
func (b *Broker) establish(l *link, hello *mdp.HelloMap) error {
	if hello.Incarnation == b.incarnation {
		return errSelf
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.draining.Load() {
		return errDrained
	}
	if len(b.links) >= maxLinks && b.links[hello.Name] == nil {
		return errManyLinks
	}
	if hello.Name == b.name {
		return fmt.Errorf("%w (%s)", errTwin, b.name)
	}
	if old := b.links[hello.Name]; old != nil {
		same := old.peer.Load().Incarnation == hello.Incarnation
		alive := b.now()-old.heard.Load() < int64(2*b.cfg.Heartbeat)
		if !same && alive {
			return fmt.Errorf("%w (%s)", errTwin, hello.Name) // a restarted one's old link is silent, if not closed
		}
		crossed := same && (old.dialled == "") != (l.dialled == "")
		if same && !crossed && alive {
			return errDuplicate // whoever says so, the link that works stays
		}
		if crossed && (b.name < hello.Name) != (l.dialled != "") {
			b.linkedTo(l.dialled, hello.Name)
			return errDuplicate
		}
		old.up = false
		old.c.z.Close(errDuplicate)
	}
	l.peer.Store(hello)
	l.up, l.since = true, b.now()
	l.heard.Store(l.since)
	b.links[hello.Name] = l
	b.linkCount.Store(int32(len(b.links)))
	b.linkedTo(l.dialled, hello.Name)
	b.note(hclog.Info, "peer link up", "broker", hello.Name, "remote", l.c.z.Peer().Remote, "dialled", l.dialled != "")
	return nil
}

// closed takes the link's routes down: what was sent over it is tried elsewhere.
func (l *link) closed(batch *zsock.Batch, err error) {
	b := l.b
	if l.peer.Load() == nil {
		return // it never was up
	}
	b.mu.Lock()
	wasUp := l.up
	if name := l.peerName(); b.links[name] == l {
		delete(b.links, name)
		b.linkCount.Store(int32(len(b.links)))
	}
	l.up = false
	b.mu.Unlock()
	if wasUp {
		b.log.Warn("peer link lost", "broker", l.peerName(), "error", err)
	}
	l.down.Store(true)
	for _, s := range b.allServices() {
		s.mu.Lock()
		if p := s.routeIfAny(l); p != nil {
			p.drop(batch)
		}
		s.mu.Unlock()
	}
}

// answer takes a PARTIAL or FINAL to a request we sent over the link.
func (l *link) answer(batch *zsock.Batch, m *zsock.Msg) {
	cmd := &l.c.cmd
	s := l.b.find(cmd.Service)
	if s == nil {
		l.b.count.unaskedReplies.Add(1)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.routeTo(l)
	p.hear(&cmd.Head.Load, cmd.Head.Flags&mdp.FlagNeed != 0, l.b.now())
	p.answered(batch, cmd, m)
	s.dispatch(batch)
}

// hearState takes the peer's entries for the services that changed.
func (l *link) hearState(batch *zsock.Batch, m *zsock.Msg) {
	frames := m.Frames()
	if len(frames) <= l.c.cmd.Body {
		return
	}
	now := l.b.now()
	var e mdp.StateEntry
	for rest := frames[l.c.cmd.Body]; len(rest) > 0; {
		var err error
		if rest, err = mdp.NextState(rest, &e); err != nil {
			l.b.count.protocolErrors.Add(1)
			return
		}
		if silent(&e.Load) && l.b.find(e.Service) == nil {
			continue
		}
		s, refused := l.b.require(nil, e.Service, 0)
		if refused != nil {
			l.b.count.stateDropped.Add(1)
			return
		}
		s.routeTo(l).hear(&e.Load, e.Need, now)
		s.dispatch(batch)
		s.mu.Unlock()
	}
}

// beat takes a heartbeat. The peer says how long ago it last heard us: when that
// comes near to where it will give the link up, it is cut in our direction, and
// both sides end it. Its token is its clock: sent back once, it measures the way.
func (l *link) beat(batch *zsock.Batch) {
	cmd := &l.c.cmd
	if cmd.Head.Flags&mdp.FlagNeed != 0 {
		l.rtt.Store(max(l.b.now()-int64(cmd.Head.Token), 1))
		return
	}
	limit := livenessMisses*l.b.cfg.Heartbeat - l.b.cfg.Heartbeat/2
	deaf := time.Duration(cmd.Head.Remaining) * time.Millisecond
	if deaf > limit && l.b.now()-l.since > int64(limit) {
		l.c.z.Close(errDeaf)
		return
	}
	echo := mdp.Command{Role: mdp.Peer, Kind: mdp.Heartbeat, Head: mdp.Head{Token: cmd.Head.Token, Flags: mdp.FlagNeed}}
	l.c.sendControl(batch, &echo)
}
