package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/bench/procs"
	"github.com/mdmesh/mdmesh/bench/sleep"
	"github.com/mdmesh/mdmesh/bench/work"
)

// node is one broker.
type node struct {
	proc     *procs.Proc
	endpoint string
	http     string // of its state
}

// mesh is some brokers, each linked with all others.
type mesh []*node

// startMesh starts n brokers and waits until all links are up.
func startMesh(ctx context.Context, g *procs.Group, n int) (mesh, error) {
	var m mesh
	for i := range n {
		b, err := m.join(ctx, g, "broker-"+strconv.Itoa(i))
		if err != nil {
			return nil, fmt.Errorf("%w: run make build first, or set BIN", err)
		}
		m = append(m, b)
	}
	return m, m.until(ctx, func(_ int, s state) bool {
		up := 0
		for _, p := range s.Peers {
			if p.State == "up" {
				up++
			}
		}
		return up == n-1
	})
}

// join starts one more broker, linked with all of m.
func (m mesh) join(ctx context.Context, g *procs.Group, name string) (*node, error) {
	args := []string{"--name", name, "--listen", "tcp://127.0.0.1:0", "--publish", "", "--subscribe", "", "--http", "127.0.0.1:0"}
	for _, other := range m {
		args = append(args, "--peer", other.endpoint)
	}
	p, err := g.Start(name, exec.Command(filepath.Join(cmp.Or(os.Getenv("BIN"), "bin"), "mdbroker"), args...))
	if err != nil {
		return nil, err
	}
	b := &node{proc: p}
	for b.endpoint == "" || b.http == "" {
		line, err := p.Line(ctx, "listening ")
		if err != nil {
			return nil, err
		}
		role, endpoint, _ := strings.Cut(line, " endpoint=")
		switch role {
		case "role=requests":
			b.endpoint = endpoint
		case "role=http":
			b.http = endpoint
		}
	}
	return b, nil
}

// state is what is read of a broker's.
type state struct {
	Services []struct {
		Name  string `json:"name"`
		Idle  int    `json:"idle"`
		Peers int    `json:"peers"`
	} `json:"services"`
	Peers []struct {
		State  string `json:"state"`
		Reads  uint32 `json:"reads"`
		Writes uint32 `json:"writes"`
	} `json:"peers"`
	Counters map[string]uint64 `json:"counters"`
}

func (b *node) state(ctx context.Context) (s state, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, b.http+"/state", nil)
	if err != nil {
		return s, err
	}
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		return s, err
	}
	defer reply.Body.Close()
	if err := json.NewDecoder(reply.Body).Decode(&s); err != nil {
		return s, fmt.Errorf("read the state of %s: %w", b.proc.Name, err)
	}
	return s, nil
}

// until waits until every broker's state is as wanted.
func (m mesh) until(ctx context.Context, wanted func(i int, s state) bool) error {
	for i := 0; i < len(m); {
		s, err := m[i].state(ctx)
		if err != nil {
			return err
		}
		if wanted(i, s) {
			i++
			continue
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not as wanted: %+v: %w", m[i].proc.Name, s, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// settled waits until n workers are idle in all, and all brokers know of each other's.
func (m mesh) settled(ctx context.Context, n int) error {
	return m.until(ctx, func(_ int, s state) bool {
		for _, one := range s.Services {
			if one.Name == sleep.Service {
				return one.Idle == n/len(m) && one.Peers == len(m)-1
			}
		}
		return false
	})
}

// counters are those of all brokers, added up.
func (m mesh) counters(ctx context.Context) (map[string]uint64, error) {
	sum := map[string]uint64{}
	for _, b := range m {
		s, err := b.state(ctx)
		if err != nil {
			return nil, err
		}
		for name, n := range s.Counters {
			sum[name] += n
		}
	}
	return sum, nil
}

// sleepers starts a process of n workers at the broker.
func (b *node) sleepers(ctx context.Context, g *procs.Group, n int) error {
	_, err := g.Role(ctx, "sleepers", b.endpoint, strconv.Itoa(n))
	return err
}

// submit runs a plan from a process of its own, whose records come by file.
func (m mesh) submit(ctx context.Context, g *procs.Group, p work.Plan, file string) ([]work.Record, error) {
	plan, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	args := []string{string(plan), file}
	for _, b := range m {
		args = append(args, b.endpoint)
	}
	if _, err := g.Role(ctx, "caller", args...); err != nil {
		return nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return work.ReadRecords(f, p.Calls)
}
