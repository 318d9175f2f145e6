package cli

import (
	"strings"
	"testing"
)

// TestListen: other machines reach a listener only if that was said.
func TestListen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		address  string
		insecure bool
		code     int
		says     string
	}{
		{"127.0.0.1:5590", false, OK, ""},
		{"localhost:0", false, OK, ""},
		{"[::1]:0", false, OK, ""},
		{"0.0.0.0:5590", true, OK, ""},
		{"0.0.0.0:5590", false, Config, "--http 0.0.0.0:5590 is open to the network"},
		{":5590", false, Config, "or add --insecure"},
		{"host.example:5590", false, Config, "bind a loopback address"},
		{"5590", false, Usage, `--http "5590": want HOST:PORT`},
		{"5590", true, Usage, "want HOST:PORT"},
	} {
		err := Listen("http", c.address, c.insecure)
		if Code(err) != c.code || err != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s, insecure %v: %v, want code %d, %q", c.address, c.insecure, err, c.code, c.says)
		}
	}
}
