// Package feed replays a CSV file into ingest: `mdcli feed` is a thin shell
// around it.
//
//	file (.gz or plain) -> rows (rows.go) -> columns (columns.go) -> records -> lineclient
//
// The one invariant: a row makes the same record with the same id every time, so
// a file may be replayed as often as one likes and its rows count once. And no
// row vanishes silently: each is answered ok, rejected, or skipped with a reason
// and its line number.
//
// Start reading at Run.
package feed

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/services/ingest/lineclient"
	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

// Max is the Speed that sends as fast as ingest answers.
const Max = 0

// Config says what to replay and where to. Either Path or Input is required;
// zero values elsewhere mean the default named beside the field.
type Config struct {
	Path  string    // file, plain or gzip; "-" is standard input
	Input io.Reader // instead of Path
	To    string    // ingest, HOST:PORT with or without "tcp://"; 127.0.0.1:5570

	// Columns are named as in the header, upper and lower case alike, or by number
	// from 1.
	Time   string  // the only time-like one
	Value  string  // "value", or else the first numeric one
	Series string  // a column, or else the name itself; the column called series, else the file's base name
	Speed  float64 // times real time, by the rows' own times; Max

	GiveUp   time.Duration                                   // without any answer from ingest; 30 s
	Window   int                                             // records sent and not answered; 1,024
	Progress func(Progress)                                  // called about every ProgressEvery and at the end; it must not block
	Every    time.Duration                                   // between two calls of Progress; 1 s
	Columns  func(Columns)                                   // called once, before the first record is sent
	Logger   hclog.Logger                                    // optional
	Dial     func(context.Context, string) (net.Conn, error) // TCP
}

// Result tells what became of the rows.
type Result struct {
	Rows     int       `json:"rows"`     // of data, header and blank lines not counted
	Sent     int       `json:"sent"`     // as records
	OK       int       `json:"ok"`       // durable, those that were there before included
	Rejected int       `json:"rejected"` // refused by ingest, such as for a conflict
	Skipped  int       `json:"skipped"`  // unreadable
	Resent   int       `json:"resent"`   // lines sent once more after a lost connection
	Seconds  float64   `json:"seconds"`
	Problems []Problem `json:"problems,omitempty"` // the first few
}

// Problem is one row that was skipped or rejected.
type Problem struct {
	Line int    `json:"line"` // of the file, from 1
	Text string `json:"text"`
}

// maxProblems bounds Result.Problems.
const maxProblems = 10

// Progress is a look at a replay under way.
type Progress struct {
	Result
	Read int64 // octets of the file, as stored
	Size int64 // of the file; 0 when unknown
}

// run is one replay. Run's goroutine owns it; answers arrive from the client's.
type run struct {
	cfg    Config
	client *lineclient.Client
	rows   *rows
	cols   Columns
	input  *counter
	size   int64
	begun  time.Time
	pace   pace

	mu sync.Mutex
	// guards the following
	result Result
}

// Run replays until the end of the input, or until ctx ends or ingest gives no
// answer for GiveUp (errors.Is lineclient.ErrNoProgress). The result is true in
// every case. Rejected and skipped rows are no error; input that is no CSV, or
// whose columns cannot be told, is one.
func Run(ctx context.Context, cfg Config) (Result, error) {
	r := &run{cfg: withDefaults(cfg), begun: time.Now()}
	if cfg.Speed < 0 {
		return Result{}, fmt.Errorf("feed: speed %v is negative", cfg.Speed)
	}
	reading, ended := context.WithCancel(ctx)
	defer ended()
	closer, err := r.open(reading)
	if err != nil {
		return Result{}, err
	}
	defer closer.Close()
	if err := r.prepare(); err != nil {
		return Result{}, err
	}
	r.client, err = lineclient.New(lineclient.Config{
		To: r.cfg.To, Window: r.cfg.Window, GiveUp: r.cfg.GiveUp,
		Answered: r.answered, Logger: r.cfg.Logger, Dial: r.cfg.Dial,
	})
	if err != nil {
		return Result{}, fmt.Errorf("feed: %w", err)
	}
	if r.cfg.Columns != nil {
		r.cfg.Columns(r.cols)
	}
	err = r.replay(ctx, ended)
	r.report()
	return r.snapshot(), err
}

func withDefaults(cfg Config) Config {
	if cfg.To == "" {
		cfg.To = "127.0.0.1:5570"
	}
	if cfg.GiveUp == 0 {
		cfg.GiveUp = 30 * time.Second
	}
	if cfg.Every <= 0 {
		cfg.Every = time.Second
	}
	return cfg
}

// open finds the input, which can be read until ctx ends. The closer is never nil
// when err is.
func (r *run) open(ctx context.Context) (io.Closer, error) {
	in := r.cfg.Input
	closer := io.Closer(io.NopCloser(nil))
	switch {
	case in != nil:
	case r.cfg.Path == "-":
		in = os.Stdin
	case r.cfg.Path == "":
		return nil, errors.New("feed: no file given")
	default:
		f, err := os.Open(r.cfg.Path)
		if err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			r.size = info.Size()
		}
		in, closer = f, f
	}
	r.input = &counter{in: readUntil(ctx, in)}
	rows, err := newRows(r.input)
	if err != nil {
		_ = closer.Close()
		return nil, fmt.Errorf("feed: %s: %w", r.name(), err)
	}
	r.rows = rows
	return closer, nil
}

// name is the input's base name, without what says how it is stored.
func (r *run) name() string {
	if r.cfg.Path == "" || r.cfg.Path == "-" {
		return "stdin"
	}
	name := filepath.Base(r.cfg.Path)
	name = strings.TrimSuffix(name, ".gz")
	return strings.TrimSuffix(name, filepath.Ext(name))
}

// replay runs the client beside the rows and waits for the last answer. It calls
// ended when the client has ended: no row need be waited for then.
func (r *run) replay(ctx context.Context, ended func()) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	clientEnd := make(chan error, 1)
	go func() {
		clientEnd <- r.client.Run(ctx)
		ended()
	}()
	reporter := make(chan struct{})
	go func() {
		defer close(reporter)
		r.reportEvery(ctx)
	}()

	err := r.sendAll(ctx)
	if err == nil || !errors.Is(err, lineclient.ErrEnded) && ctx.Err() == nil {
		// What was sent before bad input is answered all the same.
		err = errors.Join(err, r.client.Flush(ctx))
	}
	stop()
	if end := <-clientEnd; end != nil {
		err = end // the reason, where Send and Flush saw the effect
	}
	<-reporter
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	return nil
}

// sendAll turns every row into a record and sends it.
func (r *run) sendAll(ctx context.Context) error {
	for {
		row, err := r.rows.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var bad *rowError
		if err != nil && !errors.As(err, &bad) {
			return fmt.Errorf("%s, after line %d: %w", r.name(), row.line, err)
		}
		r.count(func(res *Result) { res.Rows++ })
		rec := store.Record{}
		if err == nil {
			rec, err = r.cols.record(row)
		}
		if err != nil {
			r.problem(row.line, err.Error(), func(res *Result) { res.Skipped++ })
			continue
		}
		rec.ID = rowID(row.line, rec)
		if err := r.pace.wait(ctx, r.cfg.Speed, rec.Time); err != nil {
			return err
		}
		if err := r.client.Send(ctx, rec, int64(row.line)); err != nil {
			return err
		}
		r.count(func(res *Result) { res.Sent++ })
	}
}

// rowID is the same whenever the row is sent, and another for every row: equal
// rows of one file are told apart by their line.
func rowID(line int, rec store.Record) string {
	sum := sha256.Sum256(record.Append(nil, rec))
	return "L" + strconv.Itoa(line) + "-" + hex.EncodeToString(sum[:8])
}

// answered hears from ingest.
func (r *run) answered(line int64, err error) {
	if err != nil {
		r.problem(int(line), err.Error(), func(res *Result) { res.Rejected++ })
		return
	}
	r.count(func(res *Result) { res.OK++ })
}

func (r *run) count(change func(*Result)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.result)
}

// problem counts and keeps the first few.
func (r *run) problem(line int, text string, change func(*Result)) {
	r.count(func(res *Result) {
		change(res)
		if len(res.Problems) < maxProblems {
			res.Problems = append(res.Problems, Problem{line, text})
		}
	})
}

// snapshot returns the result so far.
func (r *run) snapshot() Result {
	resent := r.client.Stats().Resent
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.result
	res.Resent = int(resent)
	res.Seconds = time.Since(r.begun).Seconds()
	res.Problems = append([]Problem(nil), res.Problems...)
	return res
}

func (r *run) report() {
	if r.cfg.Progress != nil {
		r.cfg.Progress(Progress{Result: r.snapshot(), Read: r.input.read.Load(), Size: r.size})
	}
}

func (r *run) reportEvery(ctx context.Context) {
	ticker := time.NewTicker(r.cfg.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r.report()
		}
	}
}
