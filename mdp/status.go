package mdp

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// Status is the outcome of a request: a stable code (docs/PROTOCOL.md). A Status
// other than OK is an error, so that errors.Is(err, mdp.Busy) works.
type Status uint16

// The outcomes.
const (
	OK         Status = 0
	Running    Status = 102 // answer to ATTACH: not done yet
	BadRequest Status = 400
	Denied     Status = 403
	NoWorker   Status = 404
	Expired    Status = 408 // the deadline passed
	Conflict   Status = 409
	Unknown    Status = 410 // answer to ATTACH: nothing is known of it
	TooBig     Status = 413
	Busy       Status = 429 // a bound is reached: try again after RetryAfter
	NotTaken   Status = 460 // never started: may go elsewhere
	Cancelled  Status = 499
	Internal   Status = 500
	NotOffered Status = 501 // said by clients: the broker has no event endpoints
	WorkerLost Status = 502
	BrokerLost Status = 503
	PeerLost   Status = 504
	NoSpace    Status = 507
	AppError   Status = 520 // the service itself answered an error
)

var statusNames = map[Status]string{
	OK: "OK", Running: "RUNNING", BadRequest: "BAD_REQUEST", Denied: "DENIED", NoWorker: "NO_WORKER",
	Expired: "EXPIRED", Conflict: "CONFLICT", Unknown: "UNKNOWN", TooBig: "TOO_BIG", Busy: "BUSY",
	NotTaken: "NOT_TAKEN", Cancelled: "CANCELLED", Internal: "INTERNAL", NotOffered: "NOT_OFFERED",
	WorkerLost: "WORKER_LOST", BrokerLost: "BROKER_LOST", PeerLost: "PEER_LOST", NoSpace: "NO_SPACE",
	AppError: "APP_ERROR",
}

// String returns the code's name, such as "NO_WORKER".
func (s Status) String() string {
	if n, ok := statusNames[s]; ok {
		return n
	}
	return fmt.Sprintf("STATUS_%d", uint16(s))
}

// Error makes a Status usable with errors.Is.
func (s Status) Error() string { return strings.ToLower(strings.ReplaceAll(s.String(), "_", " ")) }

// Error is a request that ended without an answer from a handler, or with an
// error from it.
type Error struct {
	Status Status
	Text   string // for people
	// RetryAfter is the sender's advice; 0 means none.
	RetryAfter time.Duration
	// MayHaveRun tells that a worker may have started the request.
	MayHaveRun bool
}

// Error names the code and the text.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Status.Error()
	}
	return e.Status.Error() + ": " + e.Text
}

// Unwrap lets errors.Is find the status.
func (e *Error) Unwrap() error { return e.Status }

// Errorf makes an *Error with a formatted text.
func Errorf(s Status, format string, args ...any) *Error {
	return &Error{Status: s, Text: fmt.Sprintf(format, args...)}
}

// String returns the id as 32 hex digits.
func (id RequestID) String() string { return hex.EncodeToString(id[:]) }

// ParseRequestID reads what String wrote.
func ParseRequestID(s string) (id RequestID, err error) {
	if len(s) != 2*len(id) {
		return id, fmt.Errorf("request id %q: want 32 hex digits", s)
	}
	if _, err = hex.Decode(id[:], []byte(s)); err != nil {
		return id, fmt.Errorf("request id %q: %w", s, err)
	}
	return id, nil
}
