package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/mem"
)

// collect receives points until it has n.
func collect(t *testing.T, conn *websocket.Conn, n int) []livePointJSON {
	t.Helper()
	var points []livePointJSON
	for len(points) < n {
		m := receive(t, conn)
		if m.Type != "points" || m.Gap {
			t.Fatalf("message %+v, want points", m)
		}
		points = append(points, m.Points...)
	}
	return points
}

func names(points []livePointJSON) []string {
	var list []string
	for _, p := range points {
		list = append(list, fmt.Sprintf("%s %s %s", p.Series, p.Window, p.Start[11:19]))
	}
	slices.Sort(list)
	return list
}

func TestConnectionBeginsWithNewestPoints(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	minute := tenSeconds("a", 0, 4)
	minute.Window = store.Minute
	st.PutPoints(tenSeconds("a", 0, 1), tenSeconds("a", 1, 2), minute, tenSeconds("b", 7, 3))
	_, addr := serve(t, Config{Store: st})
	conn, hello := greet(t, addr, nil)
	if hello.Series != 2 || hello.Rev != 4 {
		t.Errorf("hello %+v", hello)
	}
	got := names(collect(t, conn, 3))
	want := []string{"a 10s 12:00:10", "a minute 12:00:00", "b 10s 12:01:10"}
	if !slices.Equal(got, want) {
		t.Errorf("points %v, want %v", got, want)
	}
	st.PutPoints(tenSeconds("c", 0, 9))
	if got := names(collect(t, conn, 1)); got[0] != "c 10s 12:00:00" {
		t.Errorf("live point %v", got)
	}
}

func TestPointMessageShape(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	_, addr := serve(t, Config{Store: st})
	conn, _ := greet(t, addr, nil)
	st.PutPoints(tenSeconds("a", 0, 1.5))
	conn.SetReadDeadline(time.Now().Add(guard))
	_, body, err := conn.ReadMessage()
	want := `{"type":"points","points":[{"series":"a","window":"10s","start":"2026-11-21T12:00:00Z","count":1,"sum":1.5,"min":1.5,"max":1.5,"mean":1.5,"last":1.5,"rev":1}]}`
	if err != nil || string(body) != want {
		t.Errorf("%s %v\nwant %s", body, err, want)
	}
}

func TestManySeriesComeWhole(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	for n := range 3*sendBatch + 7 {
		st.PutPoints(tenSeconds(fmt.Sprint("s", n), 0, 1))
	}
	_, addr := serve(t, Config{Store: st})
	conn, _ := greet(t, addr, nil)
	points := collect(t, conn, 3*sendBatch+7)
	if unique := len(slices.Compact(names(points))); unique != 3*sendBatch+7 {
		t.Errorf("%d different series of %d points", unique, len(points))
	}
}

func TestSubscribeNarrows(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	st.PutPoints(tenSeconds("cpu.0", 0, 1), tenSeconds("cpu.1", 0, 1), tenSeconds("net.0", 0, 1))
	_, addr := serve(t, Config{Store: st})
	conn, _ := greet(t, addr, nil)
	collect(t, conn, 3)
	say := func(text string) message {
		t.Helper()
		if err := conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return receive(t, conn)
	}
	if m := say(`{"subscribe": ["cpu.", "disk"]}`); m.Type != "subscribed" || !slices.Equal(m.Subscribe, []string{"cpu.", "disk"}) {
		t.Fatalf("answer %+v", m)
	}
	if got := names(collect(t, conn, 2)); len(got) != 2 || got[0] != "cpu.0 10s 12:00:00" || got[1] != "cpu.1 10s 12:00:00" {
		t.Errorf("newest points of what is wanted: %v", got)
	}
	st.PutPoints(tenSeconds("net.0", 1, 1), tenSeconds("cpu.1", 1, 1))
	if got := names(collect(t, conn, 1)); len(got) != 1 || got[0] != "cpu.1 10s 12:00:10" {
		t.Errorf("live points of what is wanted: %v", got)
	}
	if m := say(`{"subscribe": []}`); m.Type != "subscribed" {
		t.Fatalf("answer %+v", m)
	}
	if got := names(collect(t, conn, 3)); len(got) != 3 {
		t.Errorf("an empty list means all: %v", got)
	}
}

func TestBadInputIsAnswered(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	_, addr := serve(t, Config{Store: st})
	conn, _ := greet(t, addr, nil)
	tests := []struct {
		kind       int
		text, says string
	}{
		{websocket.TextMessage, `hello`, "not understood"},
		{websocket.TextMessage, ``, "not understood"},
		{websocket.TextMessage, `{"subscribe": "cpu"}`, "not understood"},
		{websocket.TextMessage, `{"subscribe": null}`, "not understood"},
		{websocket.TextMessage, `{"unsubscribe": ["cpu"]}`, "not understood"},
		{websocket.TextMessage, `{"subscribe": []} {}`, "more than one"},
		{websocket.TextMessage, `{"subscribe": ["` + strings.Repeat("x", 201) + `"]}`, "longer than 200"},
		{websocket.TextMessage, `{"subscribe": ["a"` + strings.Repeat(`,"a"`, 100) + `]}`, "too many prefixes"},
		{websocket.BinaryMessage, `{"subscribe": []}`, "binary"},
	}
	for _, test := range tests {
		if err := conn.WriteMessage(test.kind, []byte(test.text)); err != nil {
			t.Fatal(err)
		}
		if m := receive(t, conn); m.Type != "error" || !strings.Contains(m.Error, test.says) {
			t.Errorf("%.40s: %+v, want an error with %q", test.text, m, test.says)
		}
	}
	st.PutPoints(tenSeconds("a", 0, 1))
	collect(t, conn, 1) // the connection lives
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	s, addr := serve(t, Config{Store: mem.NewStore()})
	greet(t, addr, nil)
	tests := []struct {
		origin string
		want   int
	}{
		{"http://" + addr, http.StatusSwitchingProtocols},
		{"http://evil.example", http.StatusForbidden},
		{"http://" + addr + ".evil.example", http.StatusForbidden},
		{"null", http.StatusForbidden},
		{"http://%zz", http.StatusForbidden},
	}
	for _, test := range tests {
		_, response, err := dialWS(t, addr, nil, http.Header{"Origin": {test.origin}})
		if response == nil || response.StatusCode != test.want {
			t.Errorf("origin %q: %v %v, want %d", test.origin, response, err, test.want)
		}
	}
	_, response, err := dialWS(t, addr, nil, http.Header{"Host": {"push.example"}, "Origin": {"http://push.example.evil"}})
	if response == nil || response.StatusCode != http.StatusForbidden {
		t.Errorf("a host that begins alike: %v %v", response, err)
	}
	if n := s.Stats().Ended[string(reasonOrigin)]; n != 5 {
		t.Errorf("%d counted as foreign origin, want 5", n)
	}
}

func TestTooManyClients(t *testing.T) {
	t.Parallel()
	s, addr := serve(t, Config{Store: mem.NewStore(), MaxClients: 2})
	first, _ := greet(t, addr, nil)
	greet(t, addr, nil)
	_, response, err := dialWS(t, addr, nil, nil)
	if response == nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Fatalf("third client: %v %v", response, err)
	}
	var answer map[string]string
	if json.NewDecoder(response.Body).Decode(&answer) != nil || !strings.Contains(answer["error"], "too many clients") {
		t.Errorf("third client was told %v", answer)
	}
	if n := s.Stats().Ended[string(reasonFull)]; n != 1 {
		t.Errorf("%d counted as too many", n)
	}
	first.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(guard))
	first.ReadMessage()
	greet(t, addr, nil) // a place is free again
	if n := s.Stats().Ended[string(reasonClosed)]; n != 1 {
		t.Errorf("%d counted as closed", n)
	}
}

func TestNotReadyUntilTheStoreWasRead(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	st.Fail(errors.New("starting"))
	s, addr := serve(t, Config{Store: st})
	_, response, _ := dialWS(t, addr, nil, nil)
	if response == nil || response.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("before the store was read: %v", response)
	}
	st.Fail(nil)
	greet(t, addr, nil)
	if s.Stats().Ended[string(reasonNotReady)] == 0 {
		t.Error("the refusal was not counted")
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, seed := range []string{`{"subscribe":["a"]}`, `{}`, `[`, `{"subscribe":[1]}`, "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := parseRequest(websocket.TextMessage, []byte(text))
		if r.wrong != "" {
			return
		}
		if r.prefixes == nil || len(r.prefixes) > maxPrefixes {
			t.Errorf("%q: %d prefixes", text, len(r.prefixes))
		}
		for _, prefix := range r.prefixes {
			if len(prefix) > maxPrefix {
				t.Errorf("prefix of %d octets", len(prefix))
			}
		}
	})
}
