package push

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
)

const (
	pingEvery   = 20 * time.Second
	pongWait    = 45 * time.Second // two pings unanswered and some: the client is dead
	writeWait   = 10 * time.Second
	goodbyeWait = 250 * time.Millisecond
	readLimit   = 4 << 10 // octets of one message from a client
)

var upgrader = websocket.Upgrader{
	HandshakeTimeout: goodbyeWait, // of one small write into an empty socket
	ReadBufferSize:   readLimit,
	WriteBufferSize:  16 << 10,
	CheckOrigin:      func(*http.Request) bool { return true }, // done before, to be counted
	Error: func(w http.ResponseWriter, _ *http.Request, status int, err error) {
		writeError(w, status, err.Error())
	},
}

// sameOrigin lets in programs, which send no Origin, and pages of this host and
// port; pages of others must not read along.
func sameOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// websocket serves one client until it leaves, is cut, or ctx ends.
func (s *Service) websocket(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	refuse := func(why reason, status int, text string) {
		s.counters.add(why)
		if status == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		writeError(w, status, text)
	}
	if !sameOrigin(r) {
		refuse(reasonOrigin, http.StatusForbidden, "this websocket is for pages of the same origin: open the page by the address push listens on")
		return
	}
	if !s.follower.loaded.Load() {
		refuse(reasonNotReady, http.StatusServiceUnavailable, "the store was not read yet, try again")
		return
	}
	if !s.clients.reserve() {
		refuse(reasonFull, http.StatusServiceUnavailable, "too many clients, try again later")
		return
	}
	defer s.clients.release()
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		s.counters.add(reasonHandshake) // answered by the upgrader
		return
	}
	defer conn.Close()
	c := newClient(conn, s.cache)
	s.clients.add(c)
	defer s.clients.remove(c)
	why := c.serve(ctx)
	s.counters.add(why)
	if s.log.IsDebug() {
		s.log.Debug("websocket ended", "remote", r.RemoteAddr, "reason", string(why))
	}
}
