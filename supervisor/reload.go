package supervisor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"
)

// ErrFile means that the supervisor file, read again, is no good: everything goes
// on as it did.
var ErrFile = errors.New("supervisor file")

// Reload reads the supervisor file again and brings the children in line with it:
// new ones are started, those it no longer names are stopped, those with another
// command, environment, directory or readiness are restarted, and other changes
// apply from now on. It blocks until they are at rest, or ctx ends, and returns
// those that were touched, at least as far as they were started or stopped. A bad
// file is an error (ErrFile), and changes nothing.
func (s *Supervisor) Reload(ctx context.Context) ([]ChildStatus, error) {
	file, err := s.config.File.again()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	cfg := s.config
	cfg.File = file
	if err := os.MkdirAll(cfg.logDir(), 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	return s.engine.ask(ctx, command{op: OpReload, fresh: file.children(), launcher: cfg.launcher()})
}

// again loads the file from where it was loaded.
func (f *File) again() (*File, error) {
	if f.path == "" {
		return nil, errors.New("it was not loaded from anywhere")
	}
	return Load(f.path)
}

// reload brings the children in line with those of a file, and returns those that
// were touched. Those of the file come first, in its order; those that are left to
// be stopped come behind.
func (e *engine) reload(fresh []*child) (touched []*child) {
	old := e.children
	e.children, e.dirty = nil, true
	for _, n := range fresh {
		i := slices.IndexFunc(old, func(c *child) bool { return c.name == n.name })
		if i < 0 {
			n.since = time.Now()
			e.children = append(e.children, n)
			e.begin([]*child{n})
			touched = append(touched, n)
			continue
		}
		c := old[i]
		e.children = append(e.children, c)
		if e.renew(c, n) {
			touched = append(touched, c)
		}
	}
	for _, c := range old {
		if slices.Contains(e.children, c) {
			continue
		}
		e.children = append(e.children, c)
		if !c.retired {
			c.retired = true
			touched = append(touched, c)
		}
		e.unqueue([]*child{c})
	}
	for _, c := range slices.Backward(e.children) {
		if c.retired {
			e.handle(c, news{event: stop})
		}
	}
	e.log.Info("file read again", "children", len(fresh), "touched", len(touched))
	return touched
}

// renew gives c what the file now says of it, and restarts it where that takes
// another process. What an operator stopped stays so.
func (e *engine) renew(c, n *child) (touched bool) {
	back := c.retired // it was taken out of the file, and is in it again
	c.retired = false
	if c.digest == n.digest && !back {
		return false
	}
	restarts := c.needsRestart(n) || back
	if restarts && c.process != nil && !c.held {
		e.handle(c, news{event: restart}) // with the old way to stop it
	}
	c.adopt(n)
	if c.process == nil && !c.held && restarts {
		e.begin([]*child{c})
	}
	return restarts && !c.held
}

// adopt takes what the file says from n, and leaves c's life.
func (c *child) adopt(n *child) {
	c.definition = n.definition
}

// needsRestart says whether a running process would be another one by n.
func (c *child) needsRestart(n *child) bool {
	return !slices.Equal(c.command, n.command) || !slices.Equal(c.environment, n.environment) ||
		c.directory != n.directory || c.notifies != n.notifies
}

// sum is the digest of a definition that is complete.
func (d *definition) sum() string {
	text, err := json.Marshal([]any{d.entry, d.group, d.command, d.environment, d.directory, d.restart, d.stopSignal,
		d.stopTimeout, d.notifies, d.startTimeout, d.minUptime, d.maxFailures, d.fatalExits})
	if err != nil {
		panic(err) // texts and numbers always can
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}
