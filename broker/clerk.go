package broker

import (
	"context"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// clerk answers those questions to the broker that take the longer the more it knows:
// one goroutine, so that readers, which serve many connections each, never do. Its
// answers may come behind those to what was asked later.
type clerk struct {
	b    *Broker
	desk chan question
	kept map[listing]copied // of the clerk's own goroutine
}

// question is one that waits for the clerk, in memory of its own.
type question struct {
	from  *conn
	asked string
	about [][]byte
	reply mdp.Command
}

// listing is what lists of a kind have in common, if it does not matter who asks.
type listing struct {
	asked   string
	msgpack bool
}

// copied is a list that may be told again for a while.
type copied struct {
	body  zsock.Body
	until int64
}

const (
	maxQuestions   = 1_024   // that wait for the clerk
	maxAsking      = 32      // of them, of one connection
	maxAbout       = 64      // octets of a frame of a question that are looked at
	maxAskEnvelope = 4 << 10 // octets
	keptTimes      = 10      // a list is told again for so many times the time it took to make
)

func (k *clerk) init(b *Broker) {
	k.b, k.desk, k.kept = b, make(chan question, maxQuestions), make(map[listing]copied)
}

// take puts a question on the desk, or reports false if there is no room for it. It is
// called by the reader; what it is given is copied.
func (k *clerk) take(c *conn, asked string, about [][]byte, reply mdp.Command) bool {
	if c.asking.Load() >= maxAsking || sizeOf(reply.Envelope) > maxAskEnvelope {
		return false
	}
	q := question{from: c, asked: asked, reply: reply}
	for _, f := range about[:min(len(about), 2)] {
		q.about = append(q.about, append([]byte(nil), f[:min(len(f), maxAbout)]...))
	}
	q.reply.Envelope = cloneFrames(reply.Envelope)
	if len(reply.Service) > 0 {
		q.reply.Service = []byte(asked)
	}
	select {
	case k.desk <- q:
		c.asking.Add(1)
		return true
	default:
		return false
	}
}

// serve answers until ctx ends.
func (k *clerk) serve(ctx context.Context) error {
	defer k.forget()
	var batch zsock.Batch
	for {
		select {
		case <-ctx.Done():
			return nil
		case q := <-k.desk:
			began := k.b.now()
			body := k.answer(&q, began)
			q.from.tell(&batch, &q.reply, body)
			q.from.asking.Add(-1)
			body.Release()
			batch.Flush()
			rest(ctx, time.Duration(k.b.now()-began))
		}
	}
}

// rest leaves the processor to others for as long as they had to do without.
func rest(ctx context.Context, d time.Duration) {
	if d < time.Millisecond {
		return
	}
	over := time.NewTimer(d)
	defer over.Stop()
	select {
	case <-ctx.Done():
	case <-over.C:
	}
}

// answer is the answer, for the caller to release. What was made a moment ago is told
// again, unless it is about one request.
func (k *clerk) answer(q *question, now int64) zsock.Body {
	l := listing{q.asked, inMsgpack(q.about)}
	if c := k.kept[l]; now < c.until {
		return c.body.Hold()
	}
	body := zsock.NewBody(k.b.mmi(q.asked, q.about))
	if q.asked == "mmi.request" {
		return body
	}
	made := k.b.now()
	k.drop(l)
	k.kept[l] = copied{body.Hold(), made + keptTimes*(made-now)}
	return body
}

func (k *clerk) drop(l listing) {
	if c, ok := k.kept[l]; ok {
		c.body.Release()
		delete(k.kept, l)
	}
}

func (k *clerk) forget() {
	for l := range k.kept {
		k.drop(l)
	}
}
