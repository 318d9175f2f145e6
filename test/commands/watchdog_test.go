package commands

import (
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// TestWatchdog: a broker that the service manager watches says again and again that
// it is well; one that is not watched does not.
func TestWatchdog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(meshproc.Folder(t), "n")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	cmd := meshproc.Command(t, "mdbroker", "--listen", "tcp://127.0.0.1:0", "--publish", "tcp://127.0.0.1:0", "--subscribe", "", "--http", "127.0.0.1:0")
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+path, "WATCHDOG_USEC=400000")
	p := meshproc.Start(t, cmd)
	p.Endpoint(t, "requests")
	counts := make(map[string]int)
	for counts["READY=1"] == 0 || counts["WATCHDOG=1"] < 3 {
		if err := manager.SetReadDeadline(time.Now().Add(meshproc.Guard)); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		n, err := manager.Read(buf)
		if err != nil {
			t.Fatalf("told %v: %v", counts, err)
		}
		counts[string(buf[:n])]++
	}
}
