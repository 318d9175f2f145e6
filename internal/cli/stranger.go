package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mdmesh/mdmesh/zsock"
)

// How long whoever is at an endpoint may take to say who it is: unasked, and then
// when asked as one asks an HTTP server.
const (
	lookFor  = time.Second
	unasked  = 150 * time.Millisecond
	question = "GET / HTTP/1.0\r\n\r\n"
)

// misfit is what went wrong in a handshake with something that speaks, but not as a
// broker does for clients; "" for other errors.
func misfit(err error) string {
	for _, e := range []error{zsock.ErrVersion, zsock.ErrMechanism, zsock.ErrMetadata, zsock.ErrSocketType, zsock.ErrPeerError} {
		if errors.Is(err, e) {
			text := err.Error()
			return text[strings.LastIndex(text, "zsock: ")+len("zsock: "):]
		}
	}
	return ""
}

// strangers looks who is at the endpoints where no broker was found, and says it of
// those who speak something else than ZMTP.
func strangers(endpoints []string) []string {
	ctx, cancel := context.WithTimeout(context.Background(), lookFor)
	defer cancel()
	said := make([]string, len(endpoints))
	var wg sync.WaitGroup
	for i, endpoint := range endpoints {
		wg.Go(func() {
			if who := identify(firstWords(ctx, endpoint)); who != "" {
				said[i] = who + " answers at " + endpoint
			}
		})
	}
	wg.Wait()
	var out []string
	for _, text := range said {
		if text != "" {
			out = append(out, text)
		}
	}
	return out
}

// firstWords are what somebody at the endpoint says first, none if nobody speaks.
func firstWords(ctx context.Context, endpoint string) []byte {
	network, address, _ := strings.Cut(endpoint, "://")
	if network == "ipc" {
		network = "unix"
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil
	}
	defer nc.Close()
	words := make([]byte, 256)
	_ = nc.SetDeadline(time.Now().Add(unasked)) // whatever fails below: nothing was said
	n, _ := nc.Read(words)
	if n == 0 {
		end, _ := ctx.Deadline()
		_ = nc.SetDeadline(end)
		_, _ = nc.Write([]byte(question))
		n, _ = nc.Read(words)
	}
	return words[:n]
}

// identify names the speaker of words, "" if it may well be a broker.
func identify(words []byte) string {
	line, _, _ := bytes.Cut(words, []byte("\n"))
	line = bytes.TrimSpace(line[:min(len(line), 60)])
	switch {
	case len(words) == 0 || words[0] == 0xff: // a greeting of ZMTP
		return ""
	case bytes.HasPrefix(words, []byte("HTTP/")):
		return "an HTTP server"
	case bytes.HasPrefix(words, []byte("SSH-")):
		return fmt.Sprintf("an SSH server (%s)", printable(line))
	case len(words) > 1 && words[0] == 0x15 && words[1] == 3:
		return "a TLS server"
	}
	return fmt.Sprintf("something that says %s", strconv.QuoteToASCII(string(line)))
}

// printable makes what a stranger said fit for a terminal.
func printable(line []byte) string {
	quoted := strconv.QuoteToASCII(string(line))
	return quoted[1 : len(quoted)-1]
}
