package work

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of what travels: a question is the call's number and its time of service, an
// answer the call's number and when its service began and ended.
const (
	questionSize = 16
	answerSize   = 24
)

// Now is the time on a clock that all processes of a machine share.
func Now() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // it exists
	return time.Duration(t.Nano())
}

// Question asks for service for so long, in call i.
func Question(i int, service time.Duration) []byte {
	question := binary.BigEndian.AppendUint64(make([]byte, 0, questionSize), uint64(i))
	return binary.BigEndian.AppendUint64(question, uint64(service))
}

// Serve is a worker's work: it sleeps as long as the question says.
func Serve(question []byte) (answer []byte, err error) {
	if len(question) != questionSize {
		return nil, fmt.Errorf("question of %d octets, want %d", len(question), questionSize)
	}
	start := Now()
	sleepUntil(start + time.Duration(binary.BigEndian.Uint64(question[8:])))
	answer = append(make([]byte, 0, answerSize), question[:8]...)
	answer = binary.BigEndian.AppendUint64(answer, uint64(start))
	return binary.BigEndian.AppendUint64(answer, uint64(Now())), nil
}

// Record is what became of one call: times of Now.
type Record struct {
	Submitted, Started, Ended, Answered time.Duration
}

// Records collects what becomes of the calls of a plan. Make one with NewRecords.
type Records struct {
	plan Plan
	done chan struct{} // closed when all are answered

	mu     sync.Mutex
	all    []Record
	left   int
	failed error // the first failure
}

// NewRecords returns the empty records of p.
func NewRecords(p Plan) *Records {
	return &Records{plan: p, done: make(chan struct{}), all: make([]Record, p.Calls), left: p.Calls}
}

// Run calls send for each call of the plan when its time has come, and waits until
// all are answered. send must not wait; every answer is to be given to Answered.
func (r *Records) Run(ctx context.Context, send func(c Call, question []byte) error) ([]Record, error) {
	began := Now()
	for i, c := range r.plan.Draw() {
		if at := began + c.At; at > Now() {
			sleepUntil(at)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		question := Question(i, c.Service)
		r.mu.Lock()
		r.all[i].Submitted = Now()
		r.mu.Unlock()
		if err := send(c, question); err != nil {
			return nil, fmt.Errorf("submit call %d: %w", i, err)
		}
	}
	select {
	case <-r.done:
		return r.all, r.failed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Answered notes an answer, or why there is none. Any goroutine may call it.
func (r *Records) Answered(answer []byte, err error) {
	now := Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil && len(answer) != answerSize {
		err = fmt.Errorf("answer of %d octets, want %d", len(answer), answerSize)
	}
	if err != nil {
		if r.failed == nil {
			r.failed = err
		}
	} else if i := binary.BigEndian.Uint64(answer); i < uint64(len(r.all)) {
		one := &r.all[i]
		one.Started = time.Duration(binary.BigEndian.Uint64(answer[8:]))
		one.Ended = time.Duration(binary.BigEndian.Uint64(answer[16:]))
		one.Answered = now
	}
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

// Perform is what the process of a caller does: it has submit run a plan, given as
// JSON, and writes the records to a file.
func Perform(plan, file string, submit func(Plan) ([]Record, error)) error {
	var p Plan
	if err := json.Unmarshal([]byte(plan), &p); err != nil {
		return fmt.Errorf("plan %q: %w", plan, err)
	}
	records, err := submit(p)
	if err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(WriteRecords(f, records), f.Close())
}

// WriteRecords writes them for another process.
func WriteRecords(w io.Writer, records []Record) error {
	return binary.Write(w, binary.LittleEndian, records)
}

// ReadRecords reads n of them.
func ReadRecords(r io.Reader, n int) ([]Record, error) {
	records := make([]Record, n)
	return records, binary.Read(r, binary.LittleEndian, records)
}

// Outcome is how a plan went.
type Outcome struct {
	Latency Quantiles `json:"latency"` // submission to answer
	Wait    Quantiles `json:"wait"`    // submission to start of service
	// The ideal queue, for the calls as they were: submitted when they really were,
	// served as long as they really took.
	IdealLatency Quantiles `json:"ideal_latency"`
	IdealWait    Quantiles `json:"ideal_wait"`
	// The same starts of service, given to the calls in the order they were submitted in.
	// What lies between IdealWait and this is time that workers were idle while calls
	// waited; what lies between this and Wait is calls that overtook others.
	InOrder Quantiles `json:"in_order_wait"`
	// The ideal queue for the calls as planned.
	PlannedLatency Quantiles `json:"planned_latency"`
	PlannedWait    Quantiles `json:"planned_wait"`
	// The same queue, if every call kept its worker for as long as messages took, too:
	// until the answer was there, and as the way to an idle worker takes (Dispatch).
	// What is left between this and Wait is the choice of workers.
	DelayedWait Quantiles `json:"delayed_wait"`
	Return      Quantiles `json:"return"`      // end of service to answer
	Dispatch    float64   `json:"dispatch_ms"` // a tenth of all waits are shorter: those of calls that found an idle worker
	// What timers add: to the time of service, and to the time of submission.
	Overshoot Quantiles `json:"overshoot"`
	Late      Quantiles `json:"late"`
}

// Judge compares what became of p's calls with the ideal.
func (p Plan) Judge(records []Record) Outcome {
	n := len(records)
	column := func() []time.Duration { return make([]time.Duration, n) }
	latency, wait, at, service, plannedAt, plannedService, over, late := column(), column(), column(), column(), column(), column(), column(), column()
	for i, c := range p.Draw() {
		r := records[i]
		latency[i], wait[i] = r.Answered-r.Submitted, r.Started-r.Submitted
		at[i], service[i] = r.Submitted-records[0].Submitted, r.Ended-r.Started
		plannedAt[i], plannedService[i] = c.At, c.Service
		over[i] = service[i] - c.Service
		late[i] = at[i] - c.At
	}
	soonest := slices.Min(late) // when the plan began is not recorded
	for i := range late {
		late[i] -= soonest
	}
	o := Outcome{Latency: Summarize(latency), Wait: Summarize(wait), Overshoot: Summarize(over), Late: Summarize(late)}
	o.IdealWait, o.IdealLatency = ideal(at, service, p.Workers)
	o.InOrder = inOrder(records)
	o.delays(records, at, service, p.Workers)
	o.PlannedWait, o.PlannedLatency = ideal(plannedAt, plannedService, p.Workers)
	return o
}

// inOrder is the wait if the first call submitted had had the first start, and so on.
func inOrder(records []Record) Quantiles {
	waits := make([]time.Duration, len(records))
	for i, r := range records {
		waits[i] = r.Started
	}
	slices.Sort(waits)
	for i, r := range records { // which are in the order of submission
		waits[i] -= r.Submitted
	}
	return Summarize(waits)
}

func ideal(at, service []time.Duration, workers int) (wait, latency Quantiles) {
	waits := Ideal(at, service, workers)
	latencies := make([]time.Duration, len(waits))
	for i, w := range waits {
		latencies[i] = w + service[i]
	}
	return Summarize(waits), Summarize(latencies)
}

// delays fills in what messages take, and what that does to the ideal queue.
func (o *Outcome) delays(records []Record, at, service []time.Duration, workers int) {
	n := len(records)
	waits, back, held := make([]time.Duration, n), make([]time.Duration, n), make([]time.Duration, n)
	for i, r := range records {
		waits[i] = r.Started - r.Submitted
	}
	slices.Sort(waits)
	way := waits[n/10]
	for i, r := range records {
		back[i] = r.Answered - r.Ended
		held[i] = service[i] + back[i] + way
	}
	waits = Ideal(at, held, workers)
	for i := range waits {
		waits[i] += way
	}
	o.DelayedWait, o.Return = Summarize(waits), Summarize(back)
	o.Dispatch = float64(way) / float64(time.Millisecond)
}
