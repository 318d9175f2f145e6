package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// Handler serves the broker's state and lets programs without ZeroMQ call:
//
//	GET  /healthz        200 while the process serves
//	GET  /readyz         200, or 503 while draining
//	GET  /state          State as JSON
//	POST /call/SERVICE   body in, body out; ?timeout=5s, ?no-wait: 404 at once without a worker
//	POST /peers/NAME/pause, /peers/NAME/resume   PausePeer
//
// It is meant for a loopback listener: whoever reaches it may call anything.
func (b *Broker) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", b.serveReady)
	mux.HandleFunc("GET /state", b.serveState)
	mux.HandleFunc("POST /call/{service...}", b.serveCall)
	mux.HandleFunc("POST /peers/{name}/pause", func(w http.ResponseWriter, req *http.Request) { b.servePause(w, req, true) })
	mux.HandleFunc("POST /peers/{name}/resume", func(w http.ResponseWriter, req *http.Request) { b.servePause(w, req, false) })
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		replySoon(w)
		mux.ServeHTTP(w, req)
	})
}

// replySoon bounds the time that whoever asked takes the answer in, from now on. Not every
// writer can: then the server's own limits hold.
func replySoon(w http.ResponseWriter) {
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(maxReplyTime))
}

func (b *Broker) serveReady(w http.ResponseWriter, _ *http.Request) {
	if b.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	io.WriteString(w, "ready\n")
}

func (b *Broker) serveState(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.Encode(b.State()) // the only error is a client that left
}

// fromPage refuses what a browser sends for a web page: any page could reach a
// loopback address.
func fromPage(w http.ResponseWriter, req *http.Request) bool {
	if req.Header.Get("Origin") == "" && req.Header.Get("Sec-Fetch-Site") == "" {
		return false
	}
	http.Error(w, "calls from web pages are not allowed", http.StatusForbidden)
	return true
}

func (b *Broker) servePause(w http.ResponseWriter, req *http.Request, on bool) {
	if fromPage(w, req) {
		return
	}
	if err := b.PausePeer(req.PathValue("name"), on); err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	io.WriteString(w, "ok\n")
}

// Bounds of a call by HTTP.
const (
	defaultCallTimeout = 5 * time.Second
	maxCallTimeout     = 10 * time.Minute
	maxBodyTime        = 30 * time.Second // for the body to arrive
	maxReplyTime       = 30 * time.Second // for the caller to take the answer
	maxHTTPCalls       = 512              // at once
	smallReply         = 4 << 10          // octets of an answer that a socket takes at once
)

// callParameters reads what stands behind the ? of a call. One that is not known may be
// a slip of the pen, and is refused.
func callParameters(query string) (timeout time.Duration, flags uint8, err error) {
	timeout = defaultCallTimeout
	given, err := url.ParseQuery(query)
	if err != nil {
		return 0, 0, fmt.Errorf("parameters: %w", err)
	}
	for name, values := range given {
		switch value := values[len(values)-1]; name {
		case "timeout":
			timeout, err = time.ParseDuration(value)
			if err != nil || timeout <= 0 || timeout > maxCallTimeout {
				return 0, 0, errors.New("timeout: want a duration such as 5s, at most 10m")
			}
		case "no-wait":
			on, err := strconv.ParseBool(value)
			if err != nil && value != "" {
				return 0, 0, errors.New("no-wait: want nothing, true or false behind it")
			}
			if on || value == "" {
				flags |= mdp.FlagNoWait
			}
		default:
			return 0, 0, fmt.Errorf("unknown parameter %q: there are timeout and no-wait", name)
		}
	}
	return timeout, flags, nil
}

func (b *Broker) serveCall(w http.ResponseWriter, req *http.Request) {
	if fromPage(w, req) {
		return
	}
	timeout, flags, err := callParameters(req.URL.RawQuery)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if b.httpCalls.Add(1) > maxHTTPCalls {
		b.httpCalls.Add(-1)
		b.count.httpRefused.Add(1)
		w.Header().Set("Retry-After", "1")
		http.Error(w, "too many calls at once", http.StatusServiceUnavailable)
		return
	}
	defer b.httpCalls.Add(-1)
	body, err := b.readBody(w, req, timeout)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	reply, err := b.call(ctx, req.PathValue("service"), flags, [][]byte{body})
	replySoon(w)
	if err != nil {
		writeCallError(w, err)
		return
	}
	b.writeReply(w, &reply)
}

// writeReply hands the answer to the caller, and releases it. Until it is taken it counts
// as unread; where too much is unread only a small one goes out.
func (b *Broker) writeReply(w http.ResponseWriter, reply *localAnswer) {
	defer reply.release()
	if size := reply.cost(); size > smallReply {
		if !b.unreadAnswers.Take(size) {
			b.count.answersDropped.Add(1)
			err := busy("the answer was dropped: too much waits for those who read too slowly")
			err.MayHaveRun = true
			writeCallError(w, err)
			return
		}
		defer b.unreadAnswers.Give(size)
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	for _, frame := range reply.frames() {
		if _, err := w.Write(frame); err != nil {
			return
		}
	}
}

var errNoRoom = errors.New("no room for the body")

// readBody reads the body within the time the whole call has. On error the answer
// is written.
func (b *Broker) readBody(w http.ResponseWriter, req *http.Request, timeout time.Duration) ([]byte, error) {
	ctl := http.NewResponseController(w)
	ctl.SetReadDeadline(time.Now().Add(min(timeout, maxBodyTime))) // not every writer can: then the server's own limits hold
	defer ctl.SetReadDeadline(time.Time{})
	upload := &upload{b: b, r: http.MaxBytesReader(w, req.Body, b.cfg.MaxMessage)}
	defer func() { upload.count(-upload.held) }()
	body, err := io.ReadAll(upload)
	if err != nil {
		replySoon(w) // the body may have taken all the time until now
	}
	var tooBig *http.MaxBytesError
	switch {
	case errors.Is(err, errNoRoom):
		b.count.httpRefused.Add(1)
		writeCallError(w, busy(upload.no))
	case errors.As(err, &tooBig):
		http.Error(w, fmt.Sprintf("the body is larger than %d octets", tooBig.Limit), http.StatusRequestEntityTooLarge)
	case err != nil:
		http.Error(w, "reading the body: "+err.Error(), http.StatusBadRequest)
	}
	return body, err
}

// upload is a body that is being read. What has come of it counts as held, as the call
// will: many large ones at once are refused, and who sends nothing takes no room.
type upload struct {
	b    *Broker
	r    io.Reader
	held int64
	no   string // why there is no room
}

func (u *upload) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if n == 0 {
		return n, err
	}
	u.no = u.b.noRoom(&u.b.inside, u.b.inside.Load(), int64(n), u.b.held.Load())
	u.count(int64(n))
	if u.no != "" {
		return n, errNoRoom
	}
	return n, err
}

func (u *upload) count(octets int64) {
	u.held += octets
	u.b.held.Add(octets)
	u.b.inside.Add(octets)
}

// writeCallError maps a status to HTTP; the code itself goes into a header.
func writeCallError(w http.ResponseWriter, err error) {
	code := http.StatusBadGateway
	var e *mdp.Error
	if errors.As(err, &e) {
		w.Header().Set("Md-Status", e.Status.String())
		if e.MayHaveRun {
			w.Header().Set("Md-May-Have-Run", "true")
		}
		switch e.Status {
		case mdp.BadRequest:
			code = http.StatusBadRequest
		case mdp.TooBig:
			code = http.StatusRequestEntityTooLarge
		case mdp.NoWorker:
			code = http.StatusNotFound
		case mdp.Expired:
			code = http.StatusGatewayTimeout
		case mdp.Busy, mdp.NotTaken:
			code = http.StatusServiceUnavailable
			if !e.MayHaveRun {
				w.Header().Set("Retry-After", "1")
			}
		case mdp.AppError:
			code = http.StatusInternalServerError
		}
	}
	http.Error(w, err.Error(), code)
}
