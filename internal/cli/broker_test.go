package cli

import (
	"strings"
	"testing"
)

// TestBrokers: what could never be dialled is wrong usage, in one sentence.
func TestBrokers(t *testing.T) {
	t.Parallel()
	for endpoint, says := range map[string]string{
		"tcp://127.0.0.1:5555": "", "tcp://[::1]:1": "", "tcp://broker.example:65535": "", "tcp://:5555": "", "ipc:///run/x": "", "ipc:///run/x,group=g": "",
		"tcp://127.0.0.1": "want tcp://HOST:PORT", "tcp://127.0.0.1:99999": `port "99999": give 1 to 65535`, "tcp://127.0.0.1:0": "give 1 to 65535",
		"tcp://127.0.0.1:http": "give 1 to 65535", "tcp://::1:5": "want tcp://HOST:PORT", "ipc://tmp/x": "three slashes", "ipc://@x": "three slashes",
		"udp://127.0.0.1:1": "want tcp://HOST:PORT or ipc:///PATH", "localhost": "want tcp://HOST:PORT or ipc:///PATH",
	} {
		err := Brokers([]string{endpoint})
		if says == "" && err != nil || says != "" && (Code(err) != Usage || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "--broker "+endpoint)) {
			t.Errorf("%s: %v, want %q", endpoint, err, says)
		}
	}
	if err := Brokers(nil); Code(err) != Usage {
		t.Errorf("none: %v", err)
	}
}
