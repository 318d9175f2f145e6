package work

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"time"
)

func TestDrawHasTheLoadItSays(t *testing.T) {
	t.Parallel()
	p := Plan{Seed: 1, Calls: 400_000, Load: 0.8, Workers: 16, Entries: 4, Hot: 0.7}
	calls := p.Draw()
	var sum, last time.Duration
	entries := make([]int, p.Entries)
	long := 0
	for _, c := range calls {
		if c.At < last {
			t.Fatal("calls are not in the order of arrival")
		}
		last = c.At
		sum += c.Service
		entries[c.Entry]++
		if c.Service > 100*time.Millisecond {
			long++
		}
	}
	near := func(what string, got, want, tolerance float64) {
		if math.Abs(got-want) > tolerance*want {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	n := float64(p.Calls)
	near("mean service", float64(sum)/n, float64(Mean), 0.02)
	near("length", float64(last), float64(p.Length()), 0.02)
	near("load", float64(sum)/float64(last)/float64(p.Workers), p.Load, 0.03)
	near("part of long calls", float64(long)/n, rareness*math.Exp(-100./105), 0.05)
	near("part of the first entry", float64(entries[0])/n, 0.7, 0.02)
	for _, e := range entries[1:] {
		near("part of another entry", float64(e)/n, 0.1, 0.05)
	}
	if again := p.Draw(); !reflect.DeepEqual(calls, again) {
		t.Error("the same seed draws other calls")
	}
	p.Load = 0.5
	if p.Draw()[7].Service != calls[7].Service {
		t.Error("the same seed has other work at another load")
	}
}

func TestIdeal(t *testing.T) {
	t.Parallel()
	at := []time.Duration{0, 1, 2, 3, 20}
	service := []time.Duration{10, 4, 1, 1, 5}
	for _, test := range []struct {
		workers int
		want    []time.Duration
	}{
		{1, []time.Duration{0, 9, 12, 12, 0}},
		{2, []time.Duration{0, 0, 3, 3, 0}},
		{3, []time.Duration{0, 0, 0, 0, 0}},
	} {
		if got := Ideal(at, service, test.workers); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%d workers: waits %v, want %v", test.workers, got, test.want)
		}
	}
}

// The mean wait of M/G/c is about Erlang's C * Mean / (c * (1 - load)), times
// (1 + C^2) / 2 = 5.75 for this work; its tail is near exponential.
func TestIdealWaitOfThePlan(t *testing.T) {
	t.Parallel()
	for workers, want := range map[int][2]float64{16: {35, 80}, 64: {1.5, 6}} { // seeds differ
		p := Plan{Seed: 7, Calls: 300_000, Load: 0.8, Workers: workers, Entries: 1}
		at, service := columns(p)
		if wait, _ := ideal(at, service, p.Workers); wait.P99 < want[0] || wait.P99 > want[1] {
			t.Errorf("%d workers: p99 of the ideal wait is %.1f ms, want %v", workers, wait.P99, want)
		}
	}
}

func columns(p Plan) (at, service []time.Duration) {
	for _, c := range p.Draw() {
		at, service = append(at, c.At), append(service, c.Service)
	}
	return at, service
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	d := make([]time.Duration, 1000)
	for i := range d {
		d[len(d)-1-i] = time.Duration(i) * time.Millisecond
	}
	if got, want := Summarize(d), (Quantiles{Mean: 499.5, P50: 500, P99: 990, P999: 999}); got != want {
		t.Errorf("Summarize = %+v, want %+v", got, want)
	}
	if got := Summarize(nil); got != (Quantiles{}) {
		t.Errorf("Summarize(nil) = %+v", got)
	}
}

func TestRunAndJudge(t *testing.T) {
	t.Parallel()
	p := Plan{Seed: 3, Calls: 50, Load: 0.9, Workers: 4, Entries: 1}
	busy := make(chan struct{}, p.Workers)
	r := NewRecords(p)
	records, err := r.Run(t.Context(), func(_ Call, question []byte) error {
		go func() {
			busy <- struct{}{}
			answer, err := Serve(question)
			<-busy
			r.Answered(answer, err)
		}()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := WriteRecords(&file, records); err != nil {
		t.Fatal(err)
	}
	read, err := ReadRecords(&file, p.Calls)
	if err != nil || !reflect.DeepEqual(read, records) {
		t.Fatalf("records read are not those written (%v)", err)
	}
	o := p.Judge(records)
	for i, r := range records {
		if r.Submitted > r.Started || r.Started > r.Ended || r.Ended > r.Answered {
			t.Errorf("call %d is out of order: %+v", i, r)
		}
	}
	if o.DelayedWait.P99 < o.IdealWait.P99 || o.Return.P50 < 0 || o.Dispatch < 0 {
		t.Errorf("delays %+v, %+v and %v contradict the ideal %+v", o.DelayedWait, o.Return, o.Dispatch, o.IdealWait)
	}
	if o.Overshoot.P50 < 0 || o.Wait.P999 < o.IdealWait.P50 || o.Latency.P50 <= o.Wait.P50 {
		t.Errorf("outcome %+v contradicts itself", o)
	}
}

// The second call overtook the first: their starts in order of submission say what
// they would have waited else.
func TestInOrder(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	got := inOrder([]Record{{Submitted: 0, Started: 30 * ms}, {Submitted: 10 * ms, Started: 15 * ms}})
	if want := (Quantiles{Mean: 17.5, P50: 20, P99: 20, P999: 20}); got != want {
		t.Errorf("in order %+v, want %+v", got, want)
	}
}

func TestSleepUntil(t *testing.T) {
	t.Parallel()
	for _, d := range []time.Duration{-time.Second, 0, 1, 300 * time.Microsecond, 3 * time.Millisecond} {
		at := Now() + d
		if sleepUntil(at); Now() < at {
			t.Errorf("awake %v before %v have passed", at-Now(), d)
		}
	}
}

func TestRunTellsFailures(t *testing.T) {
	t.Parallel()
	p := Plan{Seed: 3, Calls: 2, Load: 0.9, Workers: 100, Entries: 1}
	r := NewRecords(p)
	_, err := r.Run(t.Context(), func(Call, []byte) error {
		r.Answered([]byte("short"), nil)
		return nil
	})
	if err == nil {
		t.Error("answers of the wrong size go unnoticed")
	}
}
