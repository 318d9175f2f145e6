package supervisor

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
)

// readiness receives what children with ready = "notify" say: sd_notify
// datagrams, each with the sender's PID from the kernel. The path stays the same
// over a restart of the supervisor, so children taken over still find it.
type readiness struct {
	conn *net.UnixConn
	path string
	log  hclog.Logger
}

func listenReadiness(path string, log hclog.Logger) (*readiness, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("readiness socket: %w", err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("readiness socket: %w", err)
	}
	r := &readiness{conn: conn, path: path, log: log}
	err = errors.Join(nameSenders(conn), os.Chmod(path, 0o600))
	if err != nil {
		r.close()
		return nil, fmt.Errorf("readiness socket: %w", err)
	}
	return r, nil
}

// serve hands the PID of each process that is ready to tell, until close. A
// process in a child's session speaks for the child.
func (r *readiness) serve(tell func(pid int)) {
	text, oob := make([]byte, 4096), make([]byte, senderSize)
	for {
		n, oobn, _, _, err := r.conn.ReadMsgUnix(text, oob)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				r.log.Error("readiness socket failed; children with ready = notify will not become ready", "error", err)
			}
			return
		}
		if !slices.Contains(strings.Split(string(text[:n]), "\n"), "READY=1") {
			continue
		}
		if pid := sender(oob[:oobn]); pid > 0 {
			tell(pid)
		}
	}
}

// sender returns the PID of the session leader of a datagram's sender, 0 if it
// cannot be told any more.
func sender(oob []byte) int {
	pid := senderOf(oob)
	if pid == 0 {
		return 0
	}
	stat, err := readStat(pid)
	if err != nil {
		return 0
	}
	return stat.session
}

func (r *readiness) close() {
	r.conn.Close()
	os.Remove(r.path)
}
