// Command mdbroker runs one Majordomo broker. Everything it does is in package
// broker; here are flags, sockets for people (HTTP), signals and exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/internal/notify"
)

func main() { cli.Main(command()) }

// options are the flags that are not broker.Config's own.
type options struct {
	cfg                               broker.Config
	listen, publish, subscribe, peers config.Endpoints
	maxMessage                        config.Bytes
	http                              string
	checkConfig, insecure             bool
}

func command() *cobra.Command {
	o := &options{
		listen:     config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}},
		publish:    config.Endpoints{List: []string{"tcp://127.0.0.1:5556"}},
		subscribe:  config.Endpoints{List: []string{"tcp://127.0.0.1:5557"}},
		maxMessage: 64 << 20,
	}
	cmd := &cobra.Command{
		Use:   "mdbroker",
		Short: "Balance requests over workers, linked with other brokers",
		Long: `mdbroker is a Majordomo broker: clients and workers of any language connect to
--listen, publishers to --publish, subscribers to --subscribe. It speaks MDP/0.1,
MDP/0.2 and the native protocol on one port, and shares its work with the brokers
named by --peer.`,
		Example: `  mdbroker
  mdbroker --listen tcp://127.0.0.1:5565 --publish "" --subscribe "" --http "" --peer tcp://127.0.0.1:5555
  mdbroker --config /etc/mdmesh/broker.toml --check-config`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return config.Apply(cmd, "") },
		RunE:              func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.cfg.Name, "name", "", "how others know this broker (default HOST:PORT of the first listener)")
	f.Var(&o.listen, "listen", "`endpoint` for clients, workers and peers; a comma list, or repeat")
	f.Var(&o.publish, "publish", "`endpoint` where PUB sockets connect; \"\" for none")
	f.Var(&o.subscribe, "subscribe", "`endpoint` where SUB sockets connect; \"\" for none")
	f.StringVar(&o.http, "http", "127.0.0.1:5580", "`address` for /state, /healthz, /readyz, /metrics and POST /call/SERVICE; \"\" for none")
	f.Var(&o.peers, "peer", "`endpoint` of a broker to link with; one side of a pair is enough; repeat")
	f.StringVar(&o.cfg.Advertise, "advertise", "", "`endpoint` that clients and peers are told instead of the bound one")
	f.DurationVar(&o.cfg.Heartbeat, "heartbeat", time.Second, "interval of native heartbeats; three missed end a session")
	f.Var(&o.maxMessage, "max-message", "largest message, such as 64MiB")
	f.BoolVar(&o.checkConfig, "check-config", false, "check flags, environment and file, then exit")
	f.BoolVar(&o.insecure, "insecure", false, "allow endpoints other than loopback without encryption")
	config.Flag(cmd)
	logging.Flags(cmd)
	return cmd
}

func (o *options) run(ctx context.Context) error {
	o.cfg.Listen, o.cfg.Publish, o.cfg.Subscribe, o.cfg.Peers = o.listen.List, o.publish.List, o.subscribe.List, o.peers.List
	o.cfg.MaxMessage = int64(o.maxMessage)
	o.cfg.Logger = logging.New("mdbroker")
	if err := o.check(); err != nil {
		return cli.Exit(cli.Config, err)
	}
	if o.checkConfig {
		fmt.Fprintln(os.Stderr, "configuration ok")
		return nil
	}
	b, err := broker.New(o.cfg)
	if err != nil {
		return cli.Exit(cli.Config, err)
	}
	bound, err := b.Listen()
	if err != nil {
		return explainListen(err)
	}
	for _, l := range bound {
		cli.Listening(l.Role, l.Endpoint)
	}
	stopHTTP, err := o.serveHTTP(b)
	if err != nil {
		return explainListen(err)
	}
	defer stopHTTP()
	context.AfterFunc(ctx, func() { notify.Stopping() })
	if err := notify.Ready(); err != nil {
		o.cfg.Logger.Warn("service manager not told", "error", err)
	}
	return b.Run(ctx)
}

// check refuses what would be unsafe or cannot work.
func (o *options) check() error {
	if err := o.cfg.Validate(); err != nil {
		return err
	}
	if o.insecure {
		return nil
	}
	for flag, list := range map[string][]string{"listen": o.cfg.Listen, "publish": o.cfg.Publish, "subscribe": o.cfg.Subscribe} {
		for _, e := range list {
			if !loopback(strings.TrimPrefix(e, "tcp://")) {
				return fmt.Errorf("--%s %s is open to the network without encryption: bind a loopback address, or add --insecure", flag, e)
			}
		}
	}
	if o.http != "" && !loopback(o.http) {
		return fmt.Errorf("--http %s is open to the network: bind a loopback address, or add --insecure", o.http)
	}
	return nil
}

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return true // not ours to judge: binding will say what is wrong
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// explainListen names the flag to change where an address is taken.
func explainListen(err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return cli.Exitf(cli.Unavailable, "%w; choose another with --listen, --publish, --subscribe or --http (port 0 picks a free one)", err)
	}
	return cli.Exit(cli.Unavailable, err)
}

// serveHTTP starts the HTTP listener and returns what ends it.
func (o *options) serveHTTP(b *broker.Broker) (stop func(), err error) {
	if o.http == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", o.http)
	if err != nil {
		return nil, fmt.Errorf("listen for http on %s: %w", o.http, err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", b.Handler())
	mux.Handle("GET /metrics", metrics(b))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.cfg.Logger.Error("http stopped", "error", err)
		}
	}()
	cli.Listening("http", "http://"+l.Addr().String())
	return func() { server.Close(); <-done }, nil
}
