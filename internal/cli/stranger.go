package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// How long whoever is at an endpoint may take to say who it is: unasked, and then
// when asked as one asks an HTTP server.
const (
	lookFor  = time.Second
	unasked  = 150 * time.Millisecond
	question = "GET / HTTP/1.0\r\n\r\n"
)

// lookAfter is how long a daemon, which dials for as long as it runs, may be without a
// broker before it looks who else answers.
const lookAfter = 2 * time.Second

// LookAround is Strangers for a daemon: it waits for a while, and looks at the
// endpoints that lonely then returns. It blocks until then, or until ctx ends.
func LookAround(ctx context.Context, lonely func() []string) []string {
	timer := time.NewTimer(lookAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		return Strangers(lonely())
	case <-ctx.Done():
		return nil
	}
}

// Strangers looks who is at the endpoints where no broker was found, and says it of
// those who speak something else than ZMTP: "an HTTP server answers at tcp://...". It
// takes about a second at most.
func Strangers(endpoints []string) []string {
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
