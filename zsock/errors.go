package zsock

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// reason is a sentinel error with a short name for counters and an optional
// umbrella that errors.Is also finds.
type reason struct {
	name, text string
	umbrella   error
}

func (r *reason) Error() string { return "zsock: " + r.text }
func (r *reason) Unwrap() error { return r.umbrella }

// NewReason makes a reason for [Conn.Close] that [ListenerCounters] count by its name,
// which is short, such as "silent", and none of those in this package. It is for
// variables that are made once: a listener tells maxReasons names apart.
func NewReason(name, text string) error {
	return &named{text, &reason{name: name, text: text}}
}

// named is a reason of whoever uses this package, in its own words.
type named struct {
	text   string
	reason *reason
}

func (n *named) Error() string { return n.text }
func (n *named) Unwrap() error { return n.reason }

// Errors of [Conn.Send]. They are returned as they are: sending is a hot path.
var (
	// ErrClosed says that the connection (or the listener) was closed on this side.
	ErrClosed error = &reason{name: "closed", text: "closed"}
	// ErrHighWater says that the peer's queue is full: the message was not taken.
	ErrHighWater error = &reason{name: "high-water", text: "peer's queue is full"}
	// ErrTooBig says that a message is larger than MaxMessage. Sending one costs the
	// message; receiving the header of one costs the connection.
	ErrTooBig error = &reason{name: "too-big", text: "message is larger than the limit"}
	// ErrTooManyFrames says that a message has more frames than MaxFrames, or none.
	ErrTooManyFrames error = &reason{name: "too-many-frames", text: "message has no frames or more than the limit"}
)

// Reasons for which a connection ends.
var (
	// ErrPeerClosed says that the peer ended the connection.
	ErrPeerClosed error = &reason{name: "peer-closed", text: "peer closed the connection"}
	// ErrPeerError says that the peer sent an ERROR command.
	ErrPeerError error = &reason{name: "peer-error", text: "peer reported an error"}
	// ErrProtocol says that the peer broke the framing rules of ZMTP.
	ErrProtocol error = &reason{name: "protocol", text: "peer broke the framing rules"}
	// ErrProgress says that a message was begun and not finished within ProgressTimeout.
	ErrProgress error = &reason{name: "progress", text: "peer did not finish a message in time"}
	// ErrUnfinished says that unfinished messages took too much memory (see [Budget]),
	// and that this was the slowest of them.
	ErrUnfinished error = &reason{name: "unfinished", text: "too much memory in unfinished messages: the slowest was given up"}
	// ErrWriteTimeout says that the peer took nothing for WriteTimeout.
	ErrWriteTimeout error = &reason{name: "write-timeout", text: "peer did not read in time"}
	// ErrSeal says that a frame failed the connection's security.
	ErrSeal error = &reason{name: "seal", text: "frame failed the connection's security"}
)

// ErrHandshake is the umbrella of everything that can fail before a connection is open.
var ErrHandshake error = &reason{name: "handshake", text: "handshake failed"}

// Reasons for which a handshake fails; errors.Is(err, ErrHandshake) holds for each.
var (
	ErrSignature        error = &reason{"signature", "peer does not speak ZMTP", ErrHandshake}
	ErrVersion          error = &reason{"version", "peer speaks a version of ZMTP before 3.0", ErrHandshake}
	ErrMechanism        error = &reason{"mechanism", "peer wants another security mechanism", ErrHandshake}
	ErrMetadata         error = &reason{"metadata", "peer's READY command is malformed", ErrHandshake}
	ErrSocketType       error = &reason{"socket-type", "peer's socket type does not fit", ErrHandshake}
	ErrIdentity         error = &reason{"identity", "peer's identity is not permitted", ErrHandshake}
	ErrHandshakeTimeout error = &reason{"handshake-timeout", "handshake was not finished in time", ErrHandshake}
	ErrMaxHandshakes    error = &reason{"max-handshakes", "too many pending handshakes: the oldest was closed", ErrHandshake}
	ErrMaxConns         error = &reason{"max-conns", "too many connections", ErrHandshake}
	ErrMaxOfHost        error = &reason{"max-of-host", "too many connections of one host", ErrHandshake}
)

// isTimeout tells a deadline that this side set from every other failure; the
// kernel's ETIMEDOUT (the peer is gone) is not one.
func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// isGone tells errors that mean the peer (or the path to it) is gone.
func isGone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ETIMEDOUT) ||
		errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.ENETUNREACH) || errors.Is(err, net.ErrClosed)
}
