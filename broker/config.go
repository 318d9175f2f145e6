package broker

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// Config says how a broker is set up. The zero value of a field means its default.
type Config struct {
	// Name is how others know this broker; default HOST:PORT of the first listener.
	Name string
	// Listen holds the endpoints for clients, workers and peers.
	Listen []string
	// Publish and Subscribe hold the endpoints where PUB and SUB sockets connect.
	Publish, Subscribe []string
	// Peers holds the endpoints of brokers to link with; one side of a pair is enough.
	// An endpoint may have an option: "tcp://HOST:PORT,cost=2ms" adds to the measured
	// time one way, so that nearer brokers are asked first.
	Peers []string
	// Zone names where this broker stands; those of other zones are farther than all
	// of the same one. Brokers without a zone are near everybody.
	Zone string
	// Advertise is the endpoint that clients and peers are told in place of the bound
	// ones. Without it peers are told none, so that their clients do not learn of us.
	Advertise string

	// Heartbeat is the interval for native sessions, both ways; default 1 s, at least
	// 50 ms, at most a minute. Three silent intervals end a session.
	Heartbeat time.Duration
	// MaxMessage bounds one message in octets; default 64 MiB.
	MaxMessage int64
	// ForeignTTL is how long a request of an MDP/0.1 or 0.2 client waits while nobody
	// offers its service, here or at a peer; default 60 s.
	ForeignTTL time.Duration
	// BusyLimit ends the session of a foreign worker that holds one request longer
	// than this, and a detached request this long after its client went away; default 15 min.
	BusyLimit time.Duration
	// DrainTimeout bounds the wait for outstanding requests on shutdown; default 10 s.
	DrainTimeout time.Duration

	// MaxRequests bounds the queue of one service, MaxBytes all its requests in
	// octets of memory (of the body, rounded up, and 512 each); default 100,000 and 256 MiB.
	MaxRequests int
	MaxBytes    int64
	// MaxTotalBytes bounds what all services hold; default 1 GiB. From half of it on, what
	// one connection holds is bounded by a quarter of what is free.
	MaxTotalBytes int64
	// MaxUnfinished bounds the memory of large messages that have not come whole yet,
	// over all connections, in octets; more ends the connection of the slowest. Default 1 GiB.
	MaxUnfinished int64
	// MaxUnread bounds the octets of answers and events that wait for peers which do not
	// read as fast as they come; answers and events may each be half of it. Default 1 GiB.
	MaxUnread int64
	// MaxServices bounds the number of services; default 10,000. Those that linked brokers
	// offer may be a quarter more, those that workers register half as many more.
	MaxServices int
	// MaxConnections bounds the open connections of each endpoint; default 16,384. From
	// half of it on one host, which all of this machine are, may have four for each free one.
	MaxConnections int

	// Logger is optional.
	Logger hclog.Logger
	// Network is optional: where connections come from other than TCP.
	Network zsock.Network
}

// Limits that are not configurable.
const (
	maxAttempts     = 3                       // tries of one at-least-once request in all, its client's included
	maxRefusals     = 16                      // NOT_TAKEN answers one request may collect
	homeHops        = 2                       // brokers a request may visit beyond its home
	foreignInterval = 2500 * time.Millisecond // slowest heartbeat expected of a foreign worker (zguide)
	maxInterval     = time.Minute             // longest heartbeat interval that is learned of a foreign worker
	idleInterval    = 15 * time.Second        // heartbeat of clients with nothing outstanding
	livenessMisses  = 3
	minHeartbeat    = 50 * time.Millisecond // the ticker must see three of them apart
	maxHeartbeat    = time.Minute           // clients and workers keep to no longer one
	disconnectEvery = int64(time.Second)    // how often a stranger is told DISCONNECT at most
	wheelTick       = 20 * time.Millisecond
	detachedKeep    = time.Minute
	maxDetached     = 10_000
	maxDetachedOf   = 1_000     // of one client
	sessionsLogged  = 8         // worker sessions of one connection; later ones come and go unlogged
	maxKept         = 256 << 20 // octets of detached requests' answers
	maxQueued       = 1 << 20   // messages for one peer: its octets count before
	portion         = 2_048     // requests that are ended in one go, before their answers are written
	requestCost     = 512       // octets a request counts for beside its body
	maxLinks        = 256
	maxLinksOfHost  = 64        // of those that were accepted
	maxElapsed      = time.Hour // age a peer's request may claim
	poisonKept      = 100
	maxPartials     = 1_000 // partials collected for one answer
)

// Defaults returns what a broker makes of the zero value of each field.
func Defaults() Config { return Config{}.withDefaults() }

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.Heartbeat, time.Second)
	def(&c.ForeignTTL, time.Minute)
	def(&c.BusyLimit, 15*time.Minute)
	def(&c.DrainTimeout, 10*time.Second)
	if c.MaxMessage == 0 {
		c.MaxMessage = 64 << 20
	}
	if c.MaxRequests == 0 {
		c.MaxRequests = 100_000
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = 256 << 20
	}
	if c.MaxTotalBytes == 0 {
		c.MaxTotalBytes = 1 << 30
	}
	if c.MaxUnfinished == 0 {
		c.MaxUnfinished = 1 << 30
	}
	if c.MaxUnread == 0 {
		c.MaxUnread = 1 << 30
	}
	if c.MaxServices == 0 {
		c.MaxServices = 10_000
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 16_384
	}
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	return c
}

// Validate tells the first thing wrong with c and what to do about it.
func (c Config) Validate() error {
	if len(c.Listen) == 0 {
		return errors.New("no endpoint to listen on: give at least one --listen tcp://HOST:PORT")
	}
	if len(c.Name) > mdp.MaxService {
		return fmt.Errorf("name of %d octets is too long: use %d or fewer", len(c.Name), mdp.MaxService)
	}
	if c.Heartbeat < 0 || (c.Heartbeat > 0 && c.Heartbeat < minHeartbeat) {
		return fmt.Errorf("heartbeat %v is too short: use %v or more", c.Heartbeat, minHeartbeat)
	}
	if c.Heartbeat > maxHeartbeat {
		return fmt.Errorf("heartbeat %v is too long: use %v or less", c.Heartbeat, maxHeartbeat)
	}
	if c.MaxMessage < 0 || (c.MaxMessage > 0 && c.MaxMessage < 1024) {
		return fmt.Errorf("max-message %d is too small: use 1KiB or more", c.MaxMessage)
	}
	for name, n := range map[string]int64{"foreign-ttl": int64(c.ForeignTTL), "busy-limit": int64(c.BusyLimit), "drain-timeout": int64(c.DrainTimeout),
		"max-requests": int64(c.MaxRequests), "max-bytes": c.MaxBytes, "max-total-bytes": c.MaxTotalBytes,
		"max-unfinished": c.MaxUnfinished, "max-unread": c.MaxUnread, "max-services": int64(c.MaxServices), "max-connections": int64(c.MaxConnections)} {
		if n < 0 {
			return fmt.Errorf("%s is negative: use more than 0", name)
		}
	}
	if _, err := parsePeers(c.Peers); err != nil {
		return err
	}
	if len(c.Zone) > mdp.MaxService {
		return fmt.Errorf("zone of %d octets is too long: use %d or fewer", len(c.Zone), mdp.MaxService)
	}
	for _, list := range [][]string{c.Listen, c.Publish, c.Subscribe, c.Peers} {
		for _, e := range list {
			if c.Network == nil && !strings.HasPrefix(e, "tcp://") && !strings.HasPrefix(e, "ipc://") {
				return fmt.Errorf("endpoint %q: want tcp://HOST:PORT or ipc:///PATH", e)
			}
		}
	}
	return nil
}
