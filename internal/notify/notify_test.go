package notify

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen binds a datagram socket and returns a func that reads one datagram.
func listen(t *testing.T, name string) func() string {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return func() string {
		t.Helper()
		buf := make([]byte, 4096)
		if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return string(buf[:n])
	}
}

func TestNamedCalls(t *testing.T) {
	path := filepath.Join(t.TempDir(), "n")
	read := listen(t, path)
	t.Setenv("NOTIFY_SOCKET", path)
	for _, c := range []struct {
		call func() error
		want string
	}{
		{Ready, "READY=1"},
		{Stopping, "STOPPING=1"},
		{Watchdog, "WATCHDOG=1"},
		{func() error { return Status("4 workers,\nall idle") }, "STATUS=4 workers, all idle"},
		{func() error { return Send("A=1", "B=2") }, "A=1\nB=2"},
	} {
		if err := c.call(); err != nil {
			t.Fatal(err)
		}
		if got := read(); got != c.want {
			t.Errorf("sent %q, want %q", got, c.want)
		}
	}
	if err := Reloading(); err != nil {
		t.Fatal(err)
	}
	if got := read(); !strings.HasPrefix(got, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("Reloading sent %q", got)
	}
}

func TestAbstractSocket(t *testing.T) {
	t.Parallel()
	name := fmt.Sprintf("@mdmesh-notify-test-%d", os.Getpid())
	read := listen(t, name)
	if err := sendTo(name, "READY=1"); err != nil {
		t.Fatal(err)
	}
	if got := read(); got != "READY=1" {
		t.Errorf("sent %q", got)
	}
}

func TestNoSocketIsNoError(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := Ready(); err != nil {
		t.Errorf("Ready without NOTIFY_SOCKET: %v", err)
	}
}

func TestBadSocket(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"relative/path", "vsock:2:1234", filepath.Join(t.TempDir(), "nobody")} {
		if err := sendTo(name, "READY=1"); err == nil {
			t.Errorf("sendTo(%q) gave no error", name)
		}
	}
}

func TestWatchdogInterval(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"20000000", "", 10 * time.Second},
		{"20000000", "7", 10 * time.Second},
		{"20000000", "8", 0}, // meant for the parent
		{"0", "7", 0},
		{"-5", "7", 0},
		{"soon", "7", 0},
		{"99999999999999999999", "7", 0},
		{"9223372036854775807", "7", 0}, // would overflow
	} {
		if got := watchdogInterval(c.usec, c.pid, 7); got != c.want {
			t.Errorf("watchdogInterval(%q, %q) = %v, want %v", c.usec, c.pid, got, c.want)
		}
	}
}
