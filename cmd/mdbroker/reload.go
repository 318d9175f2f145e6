package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
)

// reloads reads the configuration again at each SIGHUP until ctx ends. Only peers
// can change while the broker runs; a faulty file changes nothing.
func (o *options) reloads(ctx context.Context, b *broker.Broker, hangups <-chan struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		if err := o.reload(b); err != nil {
			o.cfg.Logger.Error("configuration not reloaded", "error", err)
		}
	}
}

func (o *options) reload(b *broker.Broker) error {
	peers, err := o.readPeers()
	if err != nil {
		return err
	}
	if err := b.SetPeers(peers); err != nil {
		return err
	}
	o.cfg.Logger.Info("configuration reloaded", "peers", len(peers))
	return nil
}

// readPeers is what environment and file say about --peer now; the command line
// still wins.
func (o *options) readPeers() ([]string, error) {
	if o.peersGiven {
		return o.peers.List, nil
	}
	fresh, cmd := newCommand()
	if err := config.Apply(cmd, o.configFile); err != nil {
		return nil, err
	}
	fresh.cfg.Peers = fresh.peers.List
	return fresh.peers.List, checkReachable(fresh.cfg.Peers)
}

// remember keeps what a reload needs to know of the command line.
func (o *options) remember(cmd *cobra.Command) {
	o.peersGiven = cmd.Flags().Changed("peer")
	if f := cmd.Flag("config"); f != nil {
		o.configFile = f.Value.String()
	}
}

// watchHangups lets SIGHUP reload until the returned function is called.
func (o *options) watchHangups(ctx context.Context, b *broker.Broker) (stop func()) {
	hangups := cli.Hangups(ctx)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		o.reloads(ctx, b, hangups)
	}()
	return func() { cancel(); <-done }
}
