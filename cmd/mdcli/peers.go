package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
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
			Use: verb + " NAME", Short: short,
			Args: arguments(1, 1, "name the linked broker: mdcli peers "+verb+" NAME"),
			Long: short + `. The link stays: what is under way over it is answered. It holds
until resume, or until the broker asked is restarted.

The broker asked is the one at --http: --broker says nothing here.

Exit codes: 0 done; 1 no broker of that name is or was linked; 64 wrong usage; 69 no
broker answers there; 76 no HTTP is spoken there.`,
			Example:           "  mdcli peers " + verb + " 10.0.0.2:5555\n  mdcli peers --http 10.0.0.1:5580 " + verb + " b",
			ValidArgsFunction: firstArgument(completePeers(&address)),
			RunE: func(cmd *cobra.Command, args []string) error {
				if cmd.Flags().Changed("broker") && !cmd.Flags().Changed("http") {
					return cli.Exitf(cli.Usage, "%s goes over HTTP, and --broker (or MD_BROKER) does not say where: give that broker's --http HOST:PORT", verb)
				}
				ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
				defer cancel()
				at, err := post(ctx, address, "/peers/"+url.PathEscape(args[0])+"/"+verb)
				if err == nil {
					fmt.Fprintf(o.talk, "%sd %s at %s\n", verb, cell(args[0]), at)
				}
				return err
			},
		})
	}
}

// page is the address of the broker's HTTP as a URL.
func page(address string) string {
	return "http://" + strings.TrimSuffix(strings.TrimPrefix(address, "http://"), "/")
}

// post sends an order to the broker's HTTP address, and returns that as a URL.
func post(ctx context.Context, address, path string) (at string, err error) {
	at = page(address)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at+path, nil)
	if err != nil {
		return at, cli.Exitf(cli.Usage, "--http %s: want HOST:PORT", address)
	}
	reply, err := http.DefaultClient.Do(req)
	var unreached *net.OpError
	switch {
	case errors.As(err, &unreached), errors.Is(err, context.DeadlineExceeded), errors.Is(err, io.EOF):
		return at, cli.Exitf(cli.Unavailable, "no broker answers at %s: %w; give its --http address", at, err)
	case err != nil:
		return at, cli.Exitf(cli.Protocol, "no HTTP is spoken at %s: %w; give the broker's --http address", at, err)
	}
	defer reply.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(reply.Body, 4096)) // a text cut short says enough
	if reply.StatusCode != http.StatusOK {
		return at, cli.Exitf(cli.Failed, "%s: %s", at, strings.TrimSpace(string(text)))
	}
	return at, nil
}

// maxState bounds what is read of a broker's state for the names in it.
const maxState = 16 << 20

// completePeers offers the names of the links of the broker at an HTTP address: the
// one that the order would go to.
func completePeers(address *string) cli.Completer {
	return func(cmd *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if config.Apply(cmd, "") != nil {
			return nil, none
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, page(*address)+"/state", nil)
		if err != nil {
			return nil, none
		}
		reply, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, none
		}
		defer reply.Body.Close()
		var state struct {
			Peers []struct {
				Name string `json:"name"`
			} `json:"peers"`
		}
		if json.NewDecoder(io.LimitReader(reply.Body, maxState)).Decode(&state) != nil {
			return nil, none
		}
		var found []cobra.Completion
		for _, p := range state.Peers {
			if completable(p.Name) && strings.HasPrefix(p.Name, typed) && !slices.Contains(found, p.Name) {
				found = append(found, p.Name)
			}
		}
		return found, none
	}
}
