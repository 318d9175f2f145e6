package transform

import (
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// outage says once that the store fails and once that it answers again, however
// many requests notice.
type outage struct {
	log hclog.Logger

	mu sync.Mutex
	// guards the following
	since time.Time // zero: all is well
}

func (o *outage) began(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		o.log.Warn("store fails, requests are refused", "error", err)
	}
}

func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		o.log.Info("store answers again", "after", time.Since(o.since))
		o.since = time.Time{}
	}
}
