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
	if code, _, talk := mdcli(t, "peers", "--http", server.URL, "pause", "10.0.0.2:5555"); code != 0 || talk != "paused 10.0.0.2:5555 at "+server.URL+"\n" {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if code, _, talk := mdcli(t, "peers", "resume", "a/b", "--http", strings.TrimPrefix(server.URL, "http://")); code != 0 {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if code, _, talk := mdcli(t, "peers", "pause", "nobody", "--http", server.URL); code != cli.Failed || !strings.Contains(talk, "linked") || !strings.Contains(talk, server.URL) {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if want := "POST /peers/10.0.0.2:5555/pause POST /peers/a%2Fb/resume POST /peers/nobody/pause"; strings.Join(asked, " ") != want {
		t.Errorf("asked %q", asked)
	}
	server.Close()
	if code, _, talk := mdcli(t, "peers", "pause", "b", "--http", server.URL); code != cli.Unavailable || !strings.Contains(talk, "--http") {
		t.Errorf("exit code %d, %s", code, talk)
	}
	if code, _, talk := mdcli(t, "peers", "pause"); code != cli.Usage || !strings.Contains(talk, "mdcli peers pause NAME") {
		t.Errorf("without a name: exit code %d, %s", code, talk)
	}
	for _, verb := range []string{"pause", "resume"} { // it would change another broker than was meant
		if code, _, talk := mdcli(t, "--broker", "tcp://10.0.0.9:5555", "peers", verb, "b"); code != cli.Usage || !strings.Contains(talk, "--http HOST:PORT") {
			t.Errorf("%s with --broker alone: exit code %d, %s", verb, code, talk)
		}
	}
}

// TestCompletePeers: the names come from the broker that the order would go to.
func TestCompletePeers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/state" {
			w.Write([]byte(`{"peers": [{"name": "b"}, {"name": ""}, {"name": "c"}, {"name": "-dash"}]}`))
		}
	}))
	t.Cleanup(server.Close)
	for typed, want := range map[string]string{"": "b\nc\n:4\n", "c": "c\n:4\n", "x": ":4\n"} {
		if code, out, talk := mdcli(t, "__complete", "peers", "pause", "--http", server.URL, typed); code != 0 || out != want {
			t.Errorf("%q: exit code %d, offered %q, said %q; want %q", typed, code, out, talk, want)
		}
	}
}
