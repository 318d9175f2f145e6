package mdp

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// Revision is the native protocol revision this code speaks; it also understands
// the one before.
const Revision = 1

// HelloMap is the map of HELLO: who a client, worker or peer says it is. Instance is
// required of clients, Name and Incarnation of links between brokers. Unknown keys are
// ignored, so a newer peer may say more.
type HelloMap struct {
	Instance    string   `msgpack:"instance"` // unique per process start
	Host        string   `msgpack:"host,omitempty"`
	PID         int      `msgpack:"pid,omitempty"`
	Version     string   `msgpack:"version,omitempty"`
	Concurrency int      `msgpack:"concurrency,omitempty"` // workers: requests run at once
	Scope       string   `msgpack:"scope,omitempty"`       // workers: "mesh" (default) or "local"
	Reads       bool     `msgpack:"reads_while_working,omitempty"`
	Once        bool     `msgpack:"once,omitempty"` // workers: requests given to it run at most once
	Tags        []string `msgpack:"tags,omitempty"`
	Revision    int      `msgpack:"revision,omitempty"`

	// Of links between brokers only.
	Name        string `msgpack:"name,omitempty"`
	Incarnation string `msgpack:"incarnation,omitempty"`
	Zone        string `msgpack:"zone,omitempty"`
	UpdateMs    int    `msgpack:"update_ms,omitempty"`
	CostUs      int64  `msgpack:"cost_us,omitempty"` // configured for the link, by who dialled
	Advertise   string `msgpack:"advertise,omitempty"`
}

// WelcomeMap is the map of WELCOME: the broker's side of a session. On a link
// between brokers WELCOME has a HelloMap.
type WelcomeMap struct {
	Revision    int      `msgpack:"revision"`
	HeartbeatMs int      `msgpack:"heartbeat_ms"`
	MaxMessage  int64    `msgpack:"max_message"`
	Name        string   `msgpack:"name"`
	Incarnation string   `msgpack:"incarnation"`
	Endpoints   []string `msgpack:"endpoints,omitempty"` // where clients and workers may connect
	Others      []string `msgpack:"others,omitempty"`    // where linked brokers say that theirs may
	Publish     []string `msgpack:"publish,omitempty"`   // where PUB sockets connect
	Subscribe   []string `msgpack:"subscribe,omitempty"` // where SUB sockets connect
}

// ErrorMap is the map of an answer whose status is not OK.
type ErrorMap struct {
	Text    string `msgpack:"text,omitempty"`
	RetryMs int64  `msgpack:"retry_ms,omitempty"`
}

// MaxText is how many octets of an error's text travel; the rest is cut off, so
// that the map always fits into its frame.
const MaxText = 8192

// EncodeMap writes one of the maps above. It cannot fail for them.
func EncodeMap(m any) []byte {
	p, err := msgpack.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("mdp: encode %T: %v", m, err)) // a programmer's mistake: no such map
	}
	return p
}

// DecodeMap reads one of the maps above from a map frame of at most MaxMap octets.
// Every error wraps ErrMap. Keys that m lacks are ignored.
func DecodeMap(p []byte, m any) error {
	if len(p) > MaxMap || !wellFormedMap(p) {
		return ErrMap
	}
	if err := msgpack.Unmarshal(p, m); err != nil {
		return fmt.Errorf("%w: %w", ErrMap, err)
	}
	return nil
}

// maxRetryMs bounds the advice taken from a stranger to one day.
const maxRetryMs = 24 * 60 * 60 * 1000

// AnswerError returns the error an answer with this status carries, or nil. A map
// that cannot be read costs the text, never the status.
func AnswerError(c *Command) error {
	status := Status(c.Head.Status)
	if status == OK {
		return nil
	}
	e := &Error{Status: status, MayHaveRun: c.Head.Flags&FlagMayHaveRun != 0}
	var m ErrorMap
	if c.Map != nil && DecodeMap(c.Map, &m) == nil {
		e.Text = strings.ToValidUTF8(m.Text, "?")
		e.RetryAfter = time.Duration(min(max(m.RetryMs, 0), maxRetryMs)) * time.Millisecond
	}
	return e
}

// SetError puts an error into an answer: status, may-have-run flag and map. The
// text is made valid UTF-8 and cut to MaxText octets.
func (c *Command) SetError(e *Error) {
	c.Head.Status = uint16(e.Status)
	c.Head.Flags &^= FlagMayHaveRun
	if e.MayHaveRun {
		c.Head.Flags |= FlagMayHaveRun
	}
	c.Map = EncodeMap(&ErrorMap{Text: cutText(e.Text), RetryMs: e.RetryAfter.Milliseconds()})
}

func cutText(s string) string {
	if end := MaxText; len(s) > end {
		for end > MaxText-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = s[:end]
	}
	return strings.ToValidUTF8(s, "?")
}
