package foreign

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vmihailenco/msgpack/v5"
)

// Questions to the broker itself (RFC 8), from every kind of client.
func TestMMI(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := worker02.open(t, p, b, "busy")
	w.beat(t, 1e9, worker02.heartbeat...)
	idle := worker01.open(t, p, b, "idle")
	idle.beat(t, 1e9, worker01.heartbeat...)
	idle.fence(t)
	asker := p.open(t, b, "DEALER")
	asker.send(t, "MDPC02", "\x01", "busy", "x")
	w.request(t, "x")
	for _, a := range askers {
		client := a.open(t, p, b)
		for _, row := range []struct {
			service string
			body    []string
			want    string
		}{
			{"mmi.service", []string{"idle"}, "200"},
			{"mmi.service", []string{"busy"}, "200"},
			{"mmi.service", []string{"nobody"}, "404"},
			{"mmi.service", []string{"IDLE"}, "404"},
			{"mmi.service", []string{"idle\x00"}, "404"},
			{"mmi.service", []string{""}, "404"},
			{"mmi.service", nil, "404"},
			{"mmi.service", []string{strings.Repeat("x", 300)}, "404"},
			{"mmi.discovery", []string{"idle"}, "501"},
			{"mmi.", []string{"idle"}, "501"},
			{"mmi.service2", nil, "501"},
		} {
			client.send(t, a.ask(row.service, row.body...)...)
			client.expect(t, a.final(row.service, row.want)...)
		}
	}
	// A worker that leaves is no longer counted; asking creates nothing.
	idle.send(t, worker01.disconnect...)
	idle.fence(t)
	asker.send(t, "MDPC02", "\x01", "mmi.service", "idle")
	asker.expect(t, "MDPC02", "\x03", "mmi.service", "404")
}

// The listings, as JSON and as msgpack.
func TestListings(t *testing.T) {
	t.Parallel()
	b, p := startBroker(t), startPeer(t)
	w := worker01.open(t, p, b, "echo")
	w.fence(t)
	client := p.open(t, b, "DEALER")
	list := func(question string, format ...string) (out []map[string]any) {
		t.Helper()
		client.send(t, slices.Concat([]string{"MDPC02", "\x01", question, ""}, format)...)
		got := client.recv(t)
		if len(got) != 4 || got[2] != question {
			t.Fatalf("%s: got %q", question, got)
		}
		var err error
		if len(format) > 0 {
			err = msgpack.Unmarshal([]byte(got[3]), &out)
		} else {
			err = json.Unmarshal([]byte(got[3]), &out)
		}
		if err != nil {
			t.Fatalf("%s: %v in %q", question, err, got[3])
		}
		return out
	}
	for question, rows := range map[string]int{"mmi.services": 1, "mmi.workers": 1, "mmi.brokers": 1, "mmi.peers": 0} {
		plain, packed := list(question), list(question, "msgpack")
		if len(plain) != rows || len(packed) != rows {
			t.Fatalf("%s: %v and %v, want %d rows", question, plain, packed, rows)
		}
		for i := range plain {
			if a, b := keys(plain[i]), keys(packed[i]); !reflect.DeepEqual(a, b) {
				t.Errorf("%s: keys %v in JSON, %v in msgpack", question, a, b)
			}
		}
	}
	if s := list("mmi.services")[0]; s["name"] != "echo" || s["workers"] != 1.0 || s["idle"] != 1.0 || s["queue"] != 0.0 {
		t.Errorf("service: %v", s)
	}
	if w := list("mmi.workers")[0]; w["service"] != "echo" || w["dialect"] != "0.1" || w["concurrency"] != 1.0 {
		t.Errorf("worker: %v", w)
	}
	if s := list("mmi.brokers")[0]; s["self"] != true || !reflect.DeepEqual(s["endpoints"], []any{b.endpoint}) {
		t.Errorf("broker: %v", s)
	}
}

func keys(m map[string]any) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
