package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func itoa(n int) string { return strconv.Itoa(n) }

func TestControlErrors(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"))
	s.run()
	conn, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(guard)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	for _, c := range []struct{ line, code, text string }{
		{`{"v":1,"op":"status"}`, "", ""},
		{`{"v":1,"op":"status","new":"field"}`, "", ""},
		{`nonsense`, "bad-request", "not one line of JSON"},
		{`{"v":2,"op":"status"}`, "bad-request", "protocol version 2; this supervisor speaks 1"},
		{`{"v":1,"op":"dance"}`, "bad-request", `unknown operation "dance"`},
		{`{"v":1,"op":"stop","names":["b"]}`, "unknown-child", `unknown child "b"; there are a, all`},
		{`{"v":1,"op":"status","names":["a"]}`, "", ""},
	} {
		if _, err := conn.Write([]byte(c.line + "\n")); err != nil {
			t.Fatal(err)
		}
		text, err := lines.ReadBytes('\n')
		if err != nil {
			t.Fatal(err)
		}
		var r Response
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatal(err)
		}
		if r.Version != 1 || r.Code != c.code || !strings.Contains(r.Error, c.text) || (c.code == "") != (len(r.Children) == 1) {
			t.Errorf("%s answered %s", c.line, text)
		}
	}
	// A line without end is refused and the connection closed; the others go on.
	if _, err := conn.Write([]byte(strings.Repeat("x", maxLine+1))); err != nil {
		t.Fatal(err)
	}
	if text, err := lines.ReadString('\n'); err != nil || !strings.Contains(text, "bad-request") {
		t.Errorf("long line answered %q, %v", text, err)
	}
	if _, err := lines.ReadByte(); err == nil {
		t.Error("the connection is open after a long line")
	}
	s.ask(OpStatus)
}

func TestSocketIsPrivate(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"))
	s.run()
	for _, suffix := range []string{"", notifySuffix, lockSuffix, stateSuffix} {
		info, err := os.Stat(s.socket + suffix)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", suffix, info.Mode(), err)
		}
	}
}

func TestShutdownOverTheSocket(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "numprocs = 2", "wait"))
	stop := s.run()
	before := s.begun()
	after := s.ask(OpShutdown)
	for i, c := range after {
		if c.State != "down" || alive(before[i].PID) {
			t.Errorf("after shutdown %+v", c)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestManyConnections: idle connections over the bound neither stop the answers
// of the others for good, nor the end.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	s := newSite(t, roleEntry("a", "", "wait"))
	stop := s.run()
	var idle []net.Conn
	for range maxConns + 8 {
		conn, err := net.Dial("unix", s.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		idle = append(idle, conn)
	}
	for _, conn := range idle[:16] {
		conn.Close()
	}
	s.ask(OpStatus)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestDoWithoutSupervisor(t *testing.T) {
	t.Parallel()
	dir := socketDir(t)
	for _, c := range []struct {
		name, socket string
		is           error
		text         string
	}{
		{"nothing there", filepath.Join(dir, "none"), ErrNotRunning, "start one with: mdsupervisor run --config FILE --socket "},
		{"no folder", filepath.Join(dir, "a", "b"), ErrNotRunning, "no supervisor is running at "},
		{"too long", filepath.Join(dir, strings.Repeat("x", 120)), nil, "at most 100 are possible; choose a shorter one with --socket PATH"},
		{"none", "", nil, "choose one with --socket PATH"},
	} {
		_, err := Do(t.Context(), c.socket, OpStatus)
		if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A socket file that a killed supervisor left.
	path := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Do(t.Context(), path, OpStatus); !errors.Is(err, ErrNotRunning) {
		t.Errorf("stale socket: %v", err)
	}
}

func TestDoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	path := filepath.Join(socketDir(t), "silent")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := Do(ctx, path, OpStatus); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}
