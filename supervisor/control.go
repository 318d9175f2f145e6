package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

// The control protocol: over a Unix stream socket (0600, same user or root), a
// request is one line of JSON and so is its answer; several may follow on one
// connection. Unknown fields are ignored; another version is refused.
const (
	controlVersion = 1
	maxLine        = 64 << 10 // of a request; answers may be longer
	maxConns       = 32       // more wait in the kernel's queue
	idleTimeout    = time.Minute
	writeTimeout   = 5 * time.Second
	maxSocketPath  = 107 // sun_path of unix(7), less the final zero
)

// Request is one line to a supervisor.
type Request struct {
	Version int      `json:"v"`
	Op      Op       `json:"op"`
	Names   []string `json:"names,omitempty"` // NAME, GROUP:*, all; none = all
}

// Response is the answer: the children meant, and what went wrong, if anything.
type Response struct {
	Version  int           `json:"v"`
	Children []ChildStatus `json:"children,omitempty"`
	Error    string        `json:"error,omitempty"`
	Code     string        `json:"code,omitempty"` // unknown-child, closing, not-started, bad-request, bad-file
}

// ErrNotRunning means that nothing answers at the socket.
var ErrNotRunning = errors.New("no supervisor is running")

// ErrRequest means that the supervisor did not understand the request.
var ErrRequest = errors.New("bad request")

// codes pairs the errors that travel with their codes.
var codes = []struct {
	code string
	err  error
}{
	{"unknown-child", ErrUnknownChild},
	{"closing", ErrClosing},
	{"not-started", ErrNotStarted},
	{"bad-request", ErrRequest},
	{"bad-file", ErrFile},
}

// remoteError is an error of the supervisor at the client: its text, and the
// sentinel for errors.Is.
type remoteError struct {
	text     string
	sentinel error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.sentinel }

// DefaultSocket is $XDG_RUNTIME_DIR/mdmesh/supervisor.sock, for root
// /run/mdmesh/supervisor.sock, and "" where an ordinary user has no such folder.
func DefaultSocket() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if os.Geteuid() == 0 {
		dir = "/run"
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "mdmesh", "supervisor.sock")
}

// checkSocket refuses a path that the kernel would.
func checkSocket(path string) error {
	if path == "" {
		return errors.New("no control socket: XDG_RUNTIME_DIR is not set; choose one with --socket PATH")
	}
	// The longest name made from it: the readiness socket.
	if n := len(path) + len(notifySuffix); n > maxSocketPath {
		return fmt.Errorf("socket path %s has %d octets; at most %d are possible; choose a shorter one with --socket PATH",
			path, len(path), maxSocketPath-len(notifySuffix))
	}
	return nil
}

// Do sends one request to the supervisor at socket and blocks for its answer:
// for stop until the children are down, for start until they run or failed. The
// children in the answer are valid also with an error. Nothing there:
// ErrNotRunning.
func Do(ctx context.Context, socket string, op Op, names ...string) ([]ChildStatus, error) {
	if err := checkSocket(socket); err != nil {
		return nil, err
	}
	r, err := exchange(ctx, socket, Request{Version: controlVersion, Op: op, Names: names})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", op, ctx.Err())
	case isAbsent(err):
		return nil, fmt.Errorf("%w at %s; start one with: mdsupervisor run --config FILE --socket %s", ErrNotRunning, socket, socket)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%s: the supervisor closed the connection without an answer; its log may say why", op)
	default:
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if r.Error == "" {
		return r.Children, nil
	}
	bad := &remoteError{text: r.Error}
	for _, c := range codes {
		if c.code == r.Code {
			bad.sentinel = c.err
		}
	}
	return r.Children, bad
}

// exchange sends a request and reads the response.
func exchange(ctx context.Context, socket string, q Request) (r Response, err error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return r, err
	}
	return r, json.NewDecoder(conn).Decode(&r)
}

// isAbsent says whether an error of exchange means that nobody is there. A reset
// is of a supervisor that was killed before it took the connection.
func isAbsent(err error) bool {
	for _, absent := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, syscall.ENOTDIR, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, absent) {
			return true
		}
	}
	return false
}

// control answers requests on the socket.
type control struct {
	listener *net.UnixListener
	do       func(ctx context.Context, op Op, names []string) ([]ChildStatus, error)
	log      hclog.Logger
	slots    chan struct{}

	mu sync.Mutex
	// mu guards the following.
	conns  map[*net.UnixConn]struct{}
	closed bool
	wg     sync.WaitGroup
}

// listenControl binds the socket. The caller holds the lock, so whatever is at
// the path is left over from a supervisor that is gone.
func listenControl(path string, log hclog.Logger) (*control, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &control{listener: l, log: log, slots: make(chan struct{}, maxConns), conns: map[*net.UnixConn]struct{}{}}, nil
}

// serve accepts until close; it returns when every connection is done.
func (c *control) serve(ctx context.Context) {
	defer c.wg.Wait()
	for {
		c.slots <- struct{}{}
		conn, err := c.listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			c.log.Warn("control socket accept failed", "error", err)
			<-c.slots
			select { // out of descriptors, most likely: not at once again
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if !c.track(conn) {
			conn.Close()
			<-c.slots
			return
		}
		c.wg.Go(func() {
			defer func() { c.untrack(conn); <-c.slots }()
			c.converse(ctx, conn)
		})
	}
}

func (c *control) track(conn *net.UnixConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.conns[conn] = struct{}{}
	}
	return !c.closed
}

func (c *control) untrack(conn *net.UnixConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
	conn.Close()
}

// close ends serve: nobody new, and who is in mid-request gets the answer.
func (c *control) close() {
	c.listener.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.conns {
		conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// converse answers the requests of one connection.
func (c *control) converse(ctx context.Context, conn *net.UnixConn) {
	if err := samePeer(conn); err != nil {
		c.log.Warn("control connection refused", "error", err)
		return
	}
	lines := bufio.NewReaderSize(conn, maxLine)
	for {
		if !c.expectRequest(conn) {
			return
		}
		line, err := lines.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			c.answer(conn, nil, fmt.Errorf("%w: a line longer than %d octets", ErrRequest, maxLine))
			return
		}
		if err != nil {
			return // gone, idle too long, or the supervisor ends
		}
		children, err := c.request(ctx, line)
		if !c.answer(conn, children, err) {
			return
		}
	}
}

// expectRequest gives the other side its time for the next request, unless the
// supervisor ends.
func (c *control) expectRequest(conn *net.UnixConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.closed && conn.SetReadDeadline(time.Now().Add(idleTimeout)) == nil
}

func (c *control) request(ctx context.Context, line []byte) ([]ChildStatus, error) {
	var r Request
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, fmt.Errorf("%w: not one line of JSON: %w", ErrRequest, err)
	}
	if r.Version != controlVersion {
		return nil, fmt.Errorf("%w: protocol version %d; this supervisor speaks %d", ErrRequest, r.Version, controlVersion)
	}
	if r.Op != OpStatus {
		c.log.Info("control request", "op", string(r.Op), "names", r.Names)
	}
	return c.do(ctx, r.Op, r.Names)
}

// answer writes one line; false ends the connection.
func (c *control) answer(conn *net.UnixConn, children []ChildStatus, err error) bool {
	r := Response{Version: controlVersion, Children: children}
	if err != nil {
		r.Error = err.Error()
		for _, known := range codes {
			if errors.Is(err, known.err) {
				r.Code = known.code
				break
			}
		}
	}
	conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	return json.NewEncoder(conn).Encode(r) == nil
}

// samePeer refuses other users, who could have connected in the moment between
// bind and chmod.
func samePeer(conn *net.UnixConn) error {
	uid, pid, err := peerOf(conn)
	if err != nil {
		return err
	}
	if uid != 0 && uid != os.Geteuid() {
		return fmt.Errorf("uid %d (pid %d) may not control this supervisor", uid, pid)
	}
	return nil
}
