package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mdmesh/mdmesh/internal/cli"
)

// What pause and resume ask of the broker, and what a person learns.
func TestPausePeer(t *testing.T) {
	t.Parallel()
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.EscapedPath())
		if strings.Contains(r.URL.Path, "nobody") {
			http.Error(w, "no broker of that name is or was linked", http.StatusNotFound)
		}
	}))
	if code, _, talk := mdcli(t, "peers", "--http", server.URL, "pause", "10.0.0.2:5555"); code != 0 {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if code, _, talk := mdcli(t, "peers", "resume", "a/b", "--http", strings.TrimPrefix(server.URL, "http://")); code != 0 {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if code, _, talk := mdcli(t, "peers", "pause", "nobody", "--http", server.URL); code != cli.Failed || !strings.Contains(talk, "linked") {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if want := "POST /peers/10.0.0.2:5555/pause POST /peers/a%2Fb/resume POST /peers/nobody/pause"; strings.Join(asked, " ") != want {
		t.Errorf("asked %q", asked)
	}
	server.Close()
	if code, _, talk := mdcli(t, "peers", "pause", "b", "--http", server.URL); code != cli.Unavailable || !strings.Contains(talk, "--http") {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if code, _, _ := mdcli(t, "peers", "pause"); code != cli.Usage {
		t.Errorf("without a name: exit code %d", code)
	}
}
