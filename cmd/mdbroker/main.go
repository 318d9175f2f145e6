// Command mdbroker runs one Majordomo broker. Everything it does is in package
// broker; here are flags, sockets for people (HTTP), signals and exit codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mdmesh/mdmesh/broker"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/internal/notify"
)

// lastAnswers bounds the end of the HTTP listener.
const lastAnswers = time.Second

func main() { cli.Main(command()) }

// options are the flags that are not broker.Config's own.
type options struct {
	cfg                                                      broker.Config
	listen, publish, subscribe, peers                        config.Endpoints
	maxMessage, maxBytes, maxTotal, maxUnfinished, maxUnread config.Bytes
	http                                                     string
	checkConfig, insecure                                    bool

	page string // where HTTP is bound

	peersGiven bool   // --peer stood on the command line
	configFile string // as --config said
}

func command() *cobra.Command {
	_, cmd := newCommand()
	return cmd
}

func newCommand() (*options, *cobra.Command) {
	o := &options{
		listen:    config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}},
		publish:   config.Endpoints{List: []string{"tcp://127.0.0.1:5556"}},
		subscribe: config.Endpoints{List: []string{"tcp://127.0.0.1:5557"}},
	}
	cmd := &cobra.Command{
		Use:   "mdbroker",
		Short: "Balance requests over workers, linked with other brokers",
		Long: `mdbroker is a Majordomo broker: clients and workers of any language connect to
--listen, publishers to --publish, subscribers to --subscribe. It speaks MDP/0.1,
MDP/0.2 and the native protocol on one port, and shares its work with the brokers
named by --peer. SIGTERM drains it: running requests are answered first. SIGHUP
reads the file again and links with the brokers it names as peers now.

Every flag may stand in the environment (MD_LISTEN) or in the --config file
(listen = ["tcp://127.0.0.1:5555"]), too; the command line wins, then the
environment. A line "listening role=... endpoint=..." on standard error names each
bound endpoint. Exit codes: 0 ok; 64 wrong usage; 69 an address is in use; 70
internal; 78 wrong configuration.`,
		Example: `  mdbroker
  mdbroker --name b --listen tcp://127.0.0.1:5565 --publish "" --subscribe "" --http "" --peer tcp://127.0.0.1:5555
  mdbroker --config /etc/mdmesh/broker.toml --check-config`,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			o.remember(cmd)
			return config.Apply(cmd, "")
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(); err != nil {
				return err
			}
			if o.checkConfig {
				if err := config.Misspelt(cmd, os.Environ(), cli.Near); err != nil {
					return err
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "configuration ok")
				return config.Effective(cmd.OutOrStdout(), cmd, "check-config")
			}
			return o.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.cfg.Name, "name", "", "how others know this broker (default HOST:PORT of the first listener)")
	f.Var(&o.listen, "listen", "`endpoint` for clients, workers and peers: tcp://HOST:PORT, or ipc:///PATH for programs of the same user, with ,group=NAME behind it also of that group; a comma list, or repeat")
	f.Var(&o.publish, "publish", "`endpoint` where PUB sockets connect; \"\" for none")
	f.Var(&o.subscribe, "subscribe", "`endpoint` where SUB sockets connect; \"\" for none")
	f.StringVar(&o.http, "http", "127.0.0.1:5580", "`address` for /state, /healthz, /readyz, /metrics and POST /call/SERVICE (?timeout=30s, ?no-wait); \"\" for none")
	f.Var(&o.peers, "peer", "`endpoint` of a broker to link with, with ,cost=2ms behind it to have others asked first; one side of a pair is enough; repeat")
	f.StringVar(&o.cfg.Zone, "zone", "", "where this broker stands; brokers of other zones are asked last")
	f.StringVar(&o.cfg.Advertise, "advertise", "", "`endpoint` that clients and peers are told instead of the bound one")
	f.BoolVar(&o.checkConfig, "check-config", false, "check flags, environment and file, print what is in effect as such a file, then exit")
	f.BoolVar(&o.insecure, "insecure", false, "allow endpoints other than loopback without encryption")
	o.limits(f)
	config.Flag(cmd)
	logging.Flags(cmd)
	cli.Files(cmd, "/etc/mdmesh/mdbroker.env", "what the systemd unit puts into the environment, as lines MD_NAME=value")
	return o, cmd
}

// limits adds the flags of times and bounds, with the broker's own defaults.
func (o *options) limits(f *pflag.FlagSet) {
	d := broker.Defaults()
	f.DurationVar(&o.cfg.Heartbeat, "heartbeat", d.Heartbeat, "interval of native heartbeats, 50ms to 1m; three missed end a session")
	f.DurationVar(&o.cfg.ForeignTTL, "foreign-ttl", d.ForeignTTL, "how long a request of an MDP/0.1 or 0.2 client waits while nobody offers its service")
	f.DurationVar(&o.cfg.BusyLimit, "busy-limit", d.BusyLimit, "how long an MDP/0.1 or 0.2 worker may take for one request before its session ends, and how long a detached request whose client has gone may go on")
	f.DurationVar(&o.cfg.DrainTimeout, "drain-timeout", d.DrainTimeout, "how long running requests may take on shutdown")
	bytes := func(v *config.Bytes, name string, octets int64, usage string) {
		*v = config.Bytes(octets)
		f.Var(v, name, usage)
	}
	bytes(&o.maxMessage, "max-message", d.MaxMessage, "largest message, such as 64MiB")
	f.IntVar(&o.cfg.MaxRequests, "max-requests", d.MaxRequests, "requests queued for one service; more are answered BUSY")
	bytes(&o.maxBytes, "max-bytes", d.MaxBytes, "octets of memory for the requests of one service; more are answered BUSY")
	bytes(&o.maxTotal, "max-total-bytes", d.MaxTotalBytes, "octets of memory for all requests held; more are answered BUSY, and from half of it on more than a quarter of what is free on one connection")
	bytes(&o.maxUnfinished, "max-unfinished", d.MaxUnfinished, "octets of memory for large messages that have not come whole; more, and the slowest sender is cut off")
	bytes(&o.maxUnread, "max-unread", d.MaxUnread, "octets of answers and events, each half, that wait for peers which read too slowly; more are dropped")
	f.IntVar(&o.cfg.MaxServices, "max-services", d.MaxServices, "services known at once; more are refused, but workers and linked brokers may add some")
	f.IntVar(&o.cfg.MaxConnections, "max-connections", d.MaxConnections, "open connections of each endpoint; more are refused, and from half of it on those of a host with four for each that is free")
}

// complete makes the broker's configuration of the flags, and checks it.
func (o *options) complete() error {
	c := &o.cfg
	c.Listen, c.Publish, c.Subscribe, c.Peers = o.listen.List, o.publish.List, o.subscribe.List, o.peers.List
	c.MaxMessage, c.MaxBytes, c.MaxTotalBytes = int64(o.maxMessage), int64(o.maxBytes), int64(o.maxTotal)
	c.MaxUnfinished, c.MaxUnread = int64(o.maxUnfinished), int64(o.maxUnread)
	for _, limit := range []struct {
		flag string
		n    int64 // 0 would be the broker's default, which is not what was said
		such string
	}{
		{"heartbeat", int64(c.Heartbeat), "1s"}, {"foreign-ttl", int64(c.ForeignTTL), "1m"}, {"busy-limit", int64(c.BusyLimit), "15m"},
		{"drain-timeout", int64(c.DrainTimeout), "10s"}, {"max-message", c.MaxMessage, "64MiB"}, {"max-requests", int64(c.MaxRequests), "100000"},
		{"max-bytes", c.MaxBytes, "256MiB"}, {"max-total-bytes", c.MaxTotalBytes, "1GiB"},
		{"max-unfinished", c.MaxUnfinished, "1GiB"}, {"max-unread", c.MaxUnread, "1GiB"}, {"max-services", int64(c.MaxServices), "10000"},
		{"max-connections", int64(c.MaxConnections), "16384"},
	} {
		if limit.n <= 0 {
			return cli.Exitf(cli.Config, "--%s: give more than 0, such as %s", limit.flag, limit.such)
		}
	}
	if err := o.check(); err != nil {
		return cli.Exit(cli.Config, err)
	}
	o.cfg.Logger = logging.New("mdbroker")
	return nil
}

func (o *options) run(ctx context.Context) error {
	b, err := broker.New(o.cfg)
	if err != nil {
		return cli.Exit(cli.Config, err)
	}
	bound, err := b.Listen()
	if err != nil {
		return o.explainListen(err)
	}
	for _, l := range bound {
		cli.Listening(l.Role, l.Endpoint)
	}
	stopHTTP, err := o.serveHTTP(b)
	if err != nil {
		return o.explainListen(err)
	}
	defer stopHTTP()
	defer keepMemory(ctx, b)()
	defer o.watchdog(ctx, b)()
	defer o.watchHangups(ctx, b)()
	go o.lookAround(ctx, b)
	context.AfterFunc(ctx, func() { notify.Stopping() })
	if err := notify.Ready(); err != nil {
		o.cfg.Logger.Warn("service manager not told", "error", err)
	}
	return b.Run(ctx)
}

// lookAround says once who answers in the place of peers, where none does.
func (o *options) lookAround(ctx context.Context, b *broker.Broker) {
	lonely := func() (endpoints []string) {
		for _, p := range b.Peers() {
			if p.Dialled && p.State == "down" {
				endpoints = append(endpoints, p.Endpoint)
			}
		}
		return endpoints
	}
	for _, who := range cli.LookAround(ctx, lonely) {
		o.cfg.Logger.Warn("no broker there, trying on", "found", who)
	}
}

// listener is a flag that names what is bound, and what the broker calls that.
type listener struct {
	flag, role string
	endpoints  []string
}

func (o *options) listeners() []listener {
	return []listener{{"listen", "requests", o.cfg.Listen}, {"publish", "publish", o.cfg.Publish}, {"subscribe", "subscribe", o.cfg.Subscribe}}
}

// check refuses what would be unsafe or cannot work.
func (o *options) check() error {
	if err := o.cfg.Validate(); err != nil {
		return err
	}
	for _, l := range o.listeners() {
		for _, e := range l.endpoints {
			if path, ok := strings.CutPrefix(e, "ipc://"); ok { // only the owner of the socket file may connect, and whom the endpoint names
				if err := checkIPC(path); err != nil {
					return fmt.Errorf("--%s %s: %w", l.flag, e, err)
				}
				continue
			}
			if err := o.checkListener(l.flag, e, strings.TrimPrefix(e, "tcp://")); err != nil {
				return err
			}
		}
	}
	if err := checkReachable(slices.Concat(o.cfg.Peers, advertised(o.cfg.Advertise))); err != nil {
		return err
	}
	if o.http == "" {
		return nil
	}
	return o.checkListener("http", o.http, o.http)
}

// checkReachable refuses endpoints that nobody could dial.
func checkReachable(endpoints []string) error {
	for _, e := range endpoints {
		e, _, _ = strings.Cut(e, ",")
		if strings.HasPrefix(e, "ipc://") {
			if err := cli.Dialable(e); err != nil {
				return fmt.Errorf("endpoint %q: %w", e, err)
			}
			continue
		}
		if _, port, err := splitAddress(e); err != nil || port == 0 {
			return fmt.Errorf("endpoint %q: want tcp://HOST:PORT, with the port others reach it by", e)
		}
	}
	return nil
}

// checkIPC refuses a socket file whose place depends on where the broker is started,
// and one for a group that is not there.
func checkIPC(path string) error {
	path, group, named := strings.Cut(path, ",group=")
	if path != "*" && !strings.HasPrefix(path, "/") {
		return errors.New("want ipc:///PATH, with three slashes: a path from the root")
	}
	if _, err := strconv.ParseUint(group, 10, 31); !named || err == nil {
		return nil
	}
	_, err := user.LookupGroup(group)
	return err
}

func advertised(endpoint string) []string {
	if endpoint == "" {
		return nil
	}
	return []string{endpoint}
}

// checkListener refuses what cannot be bound, and what strangers could reach.
func (o *options) checkListener(flag, value, address string) error {
	host, _, err := splitAddress(address)
	if err != nil {
		return fmt.Errorf("--%s %s: %w", flag, value, err)
	}
	ip := net.ParseIP(host)
	if o.insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--%s %s is open to the network without encryption: bind a loopback address such as 127.0.0.1, or add --insecure", flag, value)
}

func splitAddress(endpoint string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(strings.TrimPrefix(endpoint, "tcp://"))
	if err != nil {
		return "", 0, errors.New("want HOST:PORT")
	}
	port, err = strconv.Atoi(text)
	if err != nil || port < 0 || port > 65535 {
		return "", 0, fmt.Errorf("port %q: give 0 to 65535", text)
	}
	return host, port, nil
}

// explainListen says what to do about an endpoint that cannot be bound.
func (o *options) explainListen(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return cli.Exitf(cli.Unavailable, "%w: make that folder first", err)
	case !errors.Is(err, syscall.EADDRINUSE):
		return cli.Exit(cli.Unavailable, err)
	}
	flag, at := "http", o.http
	for _, l := range o.listeners() {
		for _, e := range l.endpoints {
			if strings.Contains(err.Error(), " for "+l.role+" on "+e+":") {
				flag, at = l.flag, e
			}
		}
	}
	return cli.Exitf(cli.Unavailable, "%s: address in use: is another mdbroker running? Choose another address with --%s (port 0 picks a free one)", at, flag)
}

// httpServer serves what the broker says by HTTP. Nobody has longer than 30 s to take an answer
// in; one to a call, which may be a while in coming, from when it is there.
func httpServer(b *broker.Broker) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("/", b.Handler())
	mux.Handle("GET /metrics", metrics(b))
	return &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
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
	server := httpServer(b)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			o.cfg.Logger.Error("http stopped", "error", err)
		}
	}()
	o.page = "http://" + l.Addr().String()
	cli.Listening("http", o.page)
	return func() {
		// The broker has drained: what is left is to write the last answers.
		ctx, cancel := context.WithTimeout(context.Background(), lastAnswers)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			server.Close()
		}
		<-done
	}, nil
}
