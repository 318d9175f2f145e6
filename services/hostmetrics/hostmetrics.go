// Package hostmetrics measures the machine it runs on, once a second from /proc,
// and sends what it finds to ingest as any foreign program would: over TCP, one
// record per line.
//
//	cpu.total cpu.0 ...              percent of the time that was busy
//	load.1m load.5m load.15m
//	memory.used_bytes memory.available_bytes swap.used_bytes
//	disk.vda.read_bytes .write_bytes per second, each real disk
//	net.eth0.rx_bytes .tx_bytes      per second, each interface
//	mesh.mdbroker.cpu                percent of one processor, all its processes
//	mesh.mdbroker.rss_bytes .fds .threads .processes; mdservice by sub-command
//
// The one invariant: a figure is measured or missing, never invented. What
// cannot be read, has no previous value or has begun anew gives no record.
//
// Start reading at Metrics.Run, then sampler.go (counters to figures), parse.go
// (files to counters) and backlog.go (what waits for ingest).
package hostmetrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/services/ingest/lineclient"
	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

// Config says what to measure and where to send it. Zero values mean the
// default named beside the field.
type Config struct {
	To       string        // ingest, HOST:PORT with or without "tcp://"; 127.0.0.1:5570
	Interval time.Duration // between samples; 1 s, at least 10 ms
	Proc     string        // where proc(5) is mounted; /proc
	Host     string        // part of every id, so that machines never share one; the host's name
	Prefix   string        // put before every series, such as "web1."; none
	Backlog  int           // samples kept while ingest is away, the oldest go first; 60
	// Dial makes connections; TCP.
	Dial   func(ctx context.Context, address string) (net.Conn, error)
	Logger hclog.Logger // optional
}

// Metrics samples and sends. Run may be called once, State at any time.
type Metrics struct {
	cfg     Config
	log     hclog.Logger
	sampler *sampler
	client  *lineclient.Client
	backlog *backlog

	mu sync.Mutex
	// guards the following
	samples uint64
	invalid uint64
	said    map[string]bool // reasons for rejection that were logged, a few
}

// maxSaid bounds the reasons that are logged, each once.
const maxSaid = 16

// New checks cfg. It opens and starts nothing.
func New(cfg Config) (*Metrics, error) {
	if cfg.To == "" {
		cfg.To = "127.0.0.1:5570"
	}
	if cfg.Interval == 0 {
		cfg.Interval = time.Second
	}
	if cfg.Interval < 10*time.Millisecond {
		return nil, fmt.Errorf("hostmetrics: interval %v is shorter than 10ms", cfg.Interval)
	}
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Backlog == 0 {
		cfg.Backlog = 60
	}
	if cfg.Backlog < 0 {
		return nil, errors.New("hostmetrics: backlog must not be negative")
	}
	if cfg.Logger == nil {
		cfg.Logger = hclog.NewNullLogger()
	}
	if cfg.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("hostmetrics: name of this host: %w; give one", err)
		}
		cfg.Host = host
	}
	m := &Metrics{
		cfg:     cfg,
		log:     cfg.Logger,
		sampler: newSampler(cfg.Proc, cfg.Logger),
		backlog: newBacklog(cfg.Backlog),
		said:    make(map[string]bool),
	}
	if err := record.Check(m.record(point{"cpu.total", 0}, time.Unix(0, 0))); err != nil {
		return nil, fmt.Errorf("hostmetrics: host %q, prefix %q: %w", cfg.Host, cfg.Prefix, err)
	}
	client, err := lineclient.New(lineclient.Config{To: cfg.To, Answered: m.answered, Dial: cfg.Dial, Logger: cfg.Logger})
	if err != nil {
		return nil, fmt.Errorf("hostmetrics: %w", err)
	}
	m.client = client
	return m, nil
}

// Run samples until ctx ends and then returns nil at once: what ingest has not
// answered by then is given up.
func (m *Metrics) Run(ctx context.Context) error {
	var parts sync.WaitGroup
	parts.Go(func() { _ = m.client.Run(ctx) }) // without a limit it ends with ctx only
	parts.Go(func() { m.send(ctx) })
	defer parts.Wait()

	ticker := time.NewTicker(m.cfg.Interval)
	defer ticker.Stop()
	losses := losses{log: m.log}
	for {
		now := time.Now()
		m.backlog.push(sample{at: now.Truncate(time.Millisecond), points: m.sampler.sample(now)})
		losses.note(m.backlog.state())
		m.mu.Lock()
		m.samples++
		m.mu.Unlock()
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// send moves samples from the backlog into the client's window.
func (m *Metrics) send(ctx context.Context) {
	for {
		s, ok := m.backlog.pop(ctx)
		if !ok {
			return
		}
		for _, p := range s.points {
			var bad *record.Error
			err := m.client.Send(ctx, m.record(p, s.at), 0)
			if errors.As(err, &bad) { // a device with a name that no series can have
				m.reject(err.Error())
			} else if err != nil {
				return
			}
		}
	}
}

// record makes a record whose id is the same whenever this point is sent.
func (m *Metrics) record(p point, at time.Time) store.Record {
	return store.Record{
		Series: m.cfg.Prefix + p.series,
		ID:     m.cfg.Host + "-" + strconv.FormatInt(at.UnixMilli(), 10),
		Time:   at,
		Value:  p.value,
	}
}

// answered hears from ingest.
func (m *Metrics) answered(_ int64, err error) {
	if err != nil {
		m.reject(err.Error())
	}
}

// reject counts a record that will never be stored and says each reason once.
func (m *Metrics) reject(reason string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.invalid++
	if !m.said[reason] && len(m.said) < maxSaid {
		m.said[reason] = true
		m.log.Warn("record was rejected", "error", reason)
	}
}

// State is a snapshot for people and for metrics.
type State struct {
	Samples   uint64 `json:"samples"`   // taken
	Backlog   int    `json:"backlog"`   // samples that wait for ingest
	Dropped   uint64 `json:"dropped"`   // samples that waited too long
	OK        uint64 `json:"ok"`        // records that are durable
	Rejected  uint64 `json:"rejected"`  // records that ingest refused, or that were unfit to be sent
	Connected bool   `json:"connected"` // to ingest
}

// State returns a snapshot.
func (m *Metrics) State() State {
	c := m.client.Stats()
	waiting, dropped := m.backlog.state()
	m.mu.Lock()
	defer m.mu.Unlock()
	return State{Samples: m.samples, Backlog: waiting, Dropped: dropped, OK: c.OK, Rejected: m.invalid, Connected: c.Connected}
}
