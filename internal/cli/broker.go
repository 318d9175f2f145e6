package cli

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Brokers checks what --broker names: an endpoint that could never be dialled is
// wrong usage, and said in one sentence.
func Brokers(endpoints []string) error {
	if len(endpoints) == 0 {
		return Exitf(Usage, "no broker is named: give --broker tcp://HOST:PORT, or set MD_BROKER")
	}
	for _, e := range endpoints {
		if err := Dialable(e); err != nil {
			return Exitf(Usage, "--broker %s: %w", e, err)
		}
	}
	return nil
}

// Dialable says what is wrong with the form of an endpoint that is to be dialled,
// and what to write instead.
func Dialable(endpoint string) error {
	scheme, rest, _ := strings.Cut(endpoint, "://")
	switch scheme {
	case "ipc":
		if !strings.HasPrefix(rest, "/") {
			return errors.New("want ipc:///PATH, with three slashes: a path from the root")
		}
		return nil
	case "tcp":
		_, text, err := net.SplitHostPort(rest)
		if err != nil {
			return errors.New("want tcp://HOST:PORT")
		}
		if port, err := strconv.Atoi(text); err != nil || port < 1 || port > 65535 {
			return fmt.Errorf("port %q: give 1 to 65535", text)
		}
		return nil
	}
	return errors.New("want tcp://HOST:PORT or ipc:///PATH")
}
