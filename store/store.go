// Package store names what the pipeline keeps: rows as they were measured, and
// the roll-ups computed from them. It holds types and small interfaces only;
// each sub-package is one engine (sqlite, mem; mysql and redis later).
//
// The one invariant: a row and the mark "this window is dirty" are written in
// one transaction, and a roll-up clears the mark only if nobody touched it since
// it read the rows. So a roll-up is always what its rows say, or still marked.
package store

import (
	"context"
	"errors"
	"time"
)

// Record is one measurement: the unit ingest accepts and transform commits.
type Record struct {
	Series string    // 1..200 octets of UTF-8 without control characters
	ID     string    // unique within its series, 1..200 octets as Series; ingest makes one where the sender gave none
	Time   time.Time // instant of the measurement, years 1678..2261; kept in UTC with nanoseconds
	Value  float64   // finite; -0 is kept as 0
	Rev    int64     // >= 0; content is replaced only by a higher rev
}

// Outcome says what Apply did with one record.
type Outcome uint8

const (
	// Inserted: the row is new.
	Inserted Outcome = iota + 1
	// Duplicate: the same (series, id) with the same content (time and value) is there;
	// counted once. A higher rev than the row's is kept, so the row ends with the content
	// of the highest rev in any order.
	Duplicate
	// Revised: the content was replaced, because the record's rev is higher.
	Revised
	// Conflict: other content under the same (series, id), and no higher rev. Nothing was written.
	Conflict
)

// Window is the length of a roll-up. Starts are aligned in UTC.
type Window string

// The windows, shortest first; each longer one is computed from the one before.
const (
	TenSeconds Window = "10s"
	Minute     Window = "minute"
	Hour       Window = "hour"
	Day        Window = "day"
)

// Windows lists every window, shortest first.
var Windows = []Window{TenSeconds, Minute, Hour, Day}

// Point is one roll-up of one series over one window. Count is 0 when every row of
// the window moved to another time: such a point takes its predecessor back, its
// other figures are 0, and of the reading methods only Since returns it.
type Point struct {
	Series string
	Window Window
	Start  time.Time // UTC, aligned to the window
	Count  int64
	Sum    float64 // compensated; kept at +-math.MaxFloat64 where it leaves the range of float64
	Min    float64
	Max    float64
	Mean   float64
	Last   float64 // value of the row with the latest time (ties: the greater id)
	Rev    int64   // from one counter per store: a point with a higher rev is newer
}

// Query selects points of one series and window. A zero From or To is open.
// From is inclusive, To exclusive, both compared with Start. Limit keeps the
// newest points, 0 keeps all; answers are oldest first.
type Query struct {
	Series   string
	Window   Window
	From, To time.Time
	Limit    int
}

// ErrUnavailable wraps every failure that may pass by itself (locked, gone,
// slow): callers may try again with the same arguments.
var ErrUnavailable = errors.New("store unavailable")

// ErrUnusable wraps every failure that no further try can mend (damaged, of another
// program, of a newer version): callers end, and people look after it.
var ErrUnusable = errors.New("store unusable")

// Rows is what transform needs.
type Rows interface {
	// Apply commits the records and marks their windows dirty in one durable
	// transaction, and tells record by record what became of it (same length and
	// order). On error nothing was written. Apply is idempotent: what was stored once
	// is a Duplicate the next time. It blocks for the commit, does not keep records,
	// and takes them in order, so that a batch may revise its own rows. One bad record
	// (ErrRecord) refuses them all: callers that take strangers' records Validate first.
	Apply(ctx context.Context, records []Record) ([]Outcome, error)
}

// Rollups is what rollup writes.
type Rollups interface {
	// Recompute brings up to limit dirty 10s windows up to date, longest dirty first,
	// and in the same transaction the longer windows around them, and returns the points
	// that changed, each with its new rev, lowest rev first. More tells that dirty
	// windows are left. Several processes may call it at once.
	Recompute(ctx context.Context, limit int) (points []Point, more bool, err error)
}

// Reader is what push reads.
type Reader interface {
	// Since returns points with Rev > rev, lowest rev first, at most limit (>= 1). A rev
	// becomes visible only after every lower one, so going on from the last rev seen
	// misses nothing. Only the newest state of a point is kept.
	Since(ctx context.Context, rev int64, limit int) ([]Point, error)
	// Newest returns, for every series in name order, its newest point per window.
	Newest(ctx context.Context) ([]Point, error)
	// Points answers a query. An unknown series has no points and is no error.
	Points(ctx context.Context, q Query) ([]Point, error)
}

// Store is one engine with everything. Close waits for calls under way.
type Store interface {
	Rows
	Rollups
	Reader
	Close() error
}
