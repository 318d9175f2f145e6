// Command mdservice runs one part of the pipeline: data from outside into rows,
// rows into roll-ups, roll-ups to browsers. Parts know each other only by the
// mesh and the store, so each may run as often and wherever one likes.
package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/internal/notify"
	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/sqlite"
)

func main() { cli.Main(command()) }

// options are the flags every service shares.
type options struct {
	brokers config.Endpoints
	data    string
	log     hclog.Logger
}

func command() *cobra.Command {
	o := &options{brokers: config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}}}
	cmd := &cobra.Command{
		Use:   "mdservice",
		Short: "Run one part of the pipeline from live data to a page",
		Long: `mdservice runs one part of the pipeline:

  hostmetrics --TCP--> ingest --request--> transform --rows--> rollup --event--> push --websocket--> page

ingest takes one JSON object per line and answers once the row is durable; several
transform processes share the work and the store.

Every flag may stand in the environment (MD_BROKER) or in the --config file, too; a
table such as [ingest] is for that part only. Exit codes: 0 ok; 64 wrong usage; 69
an address is in use, or no store; 70 internal; 77 every broker refused it; 78 wrong
configuration, or a store that is damaged, another program's or of a newer version.`,
		Example: `  mdservice ingest
  mdservice transform --data /var/lib/mdmesh
  mdservice push --listen 127.0.0.1:8080`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := config.Apply(cmd, ""); err != nil {
				return err
			}
			o.log = logging.New("mdservice." + cmd.Name())
			return nil
		},
	}
	f := cmd.PersistentFlags()
	f.Var(&o.brokers, "broker", "broker `endpoint`, tcp://HOST:PORT or ipc:///PATH; a comma list, or repeat")
	f.StringVar(&o.data, "data", "data", "`folder` of the embedded store")
	config.Flag(cmd)
	logging.Flags(cmd)
	cli.Files(cmd, "DATA/", "the embedded store, in the folder that --data names")
	cmd.AddCommand(o.ingest(), o.transform(), o.rollup(), o.push(), o.hostmetrics())
	return cmd
}

// connect returns a client of the mesh; it dials when it is first used.
func (o *options) connect() (*client.Client, error) {
	if err := cli.Brokers(o.brokers.List); err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{Brokers: o.brokers.List, Logger: o.log})
	if err != nil {
		return nil, cli.Exit(cli.Usage, err)
	}
	return c, nil
}

// openPause is how long to wait between two tries to open the store.
const openPause = time.Second

// openStore opens the embedded store in --data. While that is unavailable (locked,
// no room, no permission) it tries again, until ctx ends.
func (o *options) openStore(ctx context.Context) (*sqlite.Store, error) {
	for failed := false; ; failed = true {
		s, err := sqlite.Open(ctx, sqlite.Config{Dir: o.data})
		switch {
		case err == nil:
			return s, nil
		case errors.Is(err, store.ErrUnusable):
			return nil, storeError(err)
		case !errors.Is(err, store.ErrUnavailable), errors.Is(err, syscall.ENOTDIR): // a file is in the way
			return nil, cli.Exit(cli.Unavailable, err)
		case !failed:
			o.log.Warn("store cannot be opened, trying on", "error", err, "every", openPause)
		}
		select {
		case <-time.After(openPause):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}
}

// storeError is err with the exit code of what another start cannot mend, if the
// store is why.
func storeError(err error) error {
	if errors.Is(err, store.ErrUnusable) {
		return cli.Exit(cli.Config, err)
	}
	return err
}

// ready tells the service manager.
func (o *options) ready(ctx context.Context) {
	context.AfterFunc(ctx, func() { notify.Stopping() })
	if err := notify.Ready(); err != nil {
		o.log.Warn("service manager not told", "error", err)
	}
}

// together runs all parts until ctx ends or one of them fails; then the others
// are ended, too. It returns once all have.
func together(ctx context.Context, parts ...func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(parts))
	var wg sync.WaitGroup
	for i, part := range parts {
		wg.Go(func() {
			defer stop()
			errs[i] = part(ctx)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// listen calls fn for every event of a topic until ctx ends. Events are hints:
// whoever misses one, as while there is no broker, still polls.
func listen(c *client.Client, topic string, fn func()) func(context.Context) error {
	return func(ctx context.Context) error {
		return c.Subscribe(ctx, []string{topic}, func(client.Event) { fn() })
	}
}
