package client

import (
	"math"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// instant is a time since Client.epoch: half the price of a time.Time.
type instant time.Duration

// never is later than everything.
const never instant = math.MaxInt64

// lookCost is about what look spends on one place of the table. It does not run
// again before it has rested ten times as long.
const lookCost = 10 * time.Nanosecond

func (c *Client) now() instant { return instant(time.Since(c.epoch)) }

// watch makes look run at the instant at. All exchanges share one timer, which is
// set to the earliest: as long as calls are answered in time it fires about once per
// timeout, whatever their number, and not at all without calls. Callers hold mu.
func (c *Client) watch(at, now instant) {
	if at >= c.alarmAt {
		return
	}
	c.alarmAt = at
	c.alarm.Reset(time.Duration(at - now))
}

// look sees to all exchanges whose deadline has passed or whose pause is over.
func (c *Client) look() {
	var b zsock.Batch
	c.mu.Lock()
	now, next := c.now(), never
	c.alarmAt = never
	for i := range c.slots {
		x := c.slots[i].x
		if x != nil && x.due <= now {
			c.due(x, &b, now)
			x = c.slots[i].x
		}
		if x != nil {
			next = min(next, x.due)
		}
	}
	rest := instant(len(c.slots)) * instant(10*lookCost)
	c.watch(max(next, now+rest), now)
	c.mu.Unlock()
	b.Flush()
}

// due ends or resumes x, whose time has come. Callers hold mu.
func (c *Client) due(x *exchange, b *zsock.Batch, now instant) {
	if now < x.deadline {
		x.due = x.deadline
		if x.holder != nil {
			c.askHolder(x, b, now)
		} else {
			c.submit(x, b, now)
		}
		return
	}
	err := c.unreachable(x)
	if err == nil {
		err = &mdp.Error{Status: mdp.Expired, Text: "no answer before the deadline", MayHaveRun: x.mayRun || x.state == sent}
	}
	c.withdraw(x, b)
	c.finish(x, err)
}
