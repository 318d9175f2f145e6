package main

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
)

// pauses adds the commands that take a link out of use and back to the listing of
// links. They go over the broker's HTTP address: what anybody may do who reaches
// the ports for clients should not include them.
func (o *options) pauses(peers *cobra.Command) {
	var address string
	peers.PersistentFlags().StringVar(&address, "http", "127.0.0.1:5580", "HTTP `address` of the broker, for pause and resume")
	for verb, short := range map[string]string{
		"pause":  "Send nothing new over the link to a broker, and take nothing",
		"resume": "Use a paused link again",
	} {
		peers.AddCommand(&cobra.Command{
			Use: verb + " NAME", Short: short, Args: cobra.ExactArgs(1),
			Long:    short + ".\n\nThe link stays: what is under way over it is answered. It holds until resume, or until the broker asked is restarted.",
			Example: "  mdcli peers " + verb + " 10.0.0.2:5555\n  mdcli peers --http 10.0.0.1:5580 " + verb + " b",
			RunE: func(cmd *cobra.Command, args []string) error {
				ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
				defer cancel()
				return post(ctx, address, "/peers/"+url.PathEscape(args[0])+"/"+verb)
			},
		})
	}
}

// post sends an order to the broker's HTTP address.
func post(ctx context.Context, address, path string) error {
	address = strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+path, nil)
	if err != nil {
		return cli.Exitf(cli.Usage, "--http %s: want HOST:PORT", address)
	}
	reply, err := http.DefaultClient.Do(req)
	var unreached *net.OpError
	switch {
	case errors.As(err, &unreached), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF):
		return cli.Exitf(cli.Unavailable, "no broker answers at http://%s: %v; give its --http address", address, err)
	case err != nil:
		return cli.Exitf(cli.Protocol, "no HTTP is spoken at %s: %v; give the broker's --http address", address, err)
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(reply.Body, 4096)) // a text cut short says enough
	if reply.StatusCode != http.StatusOK {
		return cli.Exitf(cli.Failed, "%s", strings.TrimSpace(string(text)))
	}
	return nil
}
