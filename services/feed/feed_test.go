package feed

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/services/ingest"
	"github.com/mdmesh/mdmesh/services/ingest/lineclient"
	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rowsByID is a transform that keeps rows by (series, id) and, every so often,
// loses its reply after the effect.
type rowsByID struct {
	loseEvery int // 0: never

	mu       sync.Mutex
	calls    int
	lost     int
	inserted int
	rows     map[[2]string]store.Record
}

func (f *rowsByID) Call(_ context.Context, _ string, body ...[]byte) ([][]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rows == nil {
		f.rows = make(map[[2]string]store.Record)
	}
	var out []map[string]string
	for line := range bytes.Lines(bytes.Join(body, nil)) {
		r, err := record.Parse(bytes.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		outcome := "duplicate"
		if old, known := f.rows[[2]string{r.Series, r.ID}]; !known {
			outcome = "inserted"
			f.inserted++
			f.rows[[2]string{r.Series, r.ID}] = r
		} else if old != r {
			outcome = "conflict"
		}
		out = append(out, map[string]string{"outcome": outcome})
	}
	f.calls++
	if f.loseEvery > 0 && f.calls%f.loseEvery == 0 {
		f.lost++
		return nil, mdp.WorkerLost
	}
	reply, err := json.Marshal(out)
	return [][]byte{reply}, err
}

// series returns the values by series, in the order of time.
func (f *rowsByID) series() map[string][]float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	byName := make(map[string][]store.Record)
	for _, r := range f.rows {
		byName[r.Series] = append(byName[r.Series], r)
	}
	out := make(map[string][]float64)
	for name, records := range byName {
		slices.SortFunc(records, func(a, b store.Record) int { return a.Time.Compare(b.Time) })
		for _, r := range records {
			out[name] = append(out[name], r.Value)
		}
	}
	return out
}

// startIngest runs a real ingest before f and returns its address.
func startIngest(t testing.TB, f ingest.Caller) string {
	t.Helper()
	s, err := ingest.New(ingest.Config{Caller: f, Listen: "127.0.0.1:0", MaxBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	addr, err := s.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return addr.String()
}

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func TestRun(t *testing.T) {
	t.Parallel()
	const plain = "timestamp,value\n2014-07-01 00:00:00,1\n2014-07-01 00:30:00,2.5\n"
	two := map[string][]float64{"stdin": {1, 2.5}}
	tests := map[string]struct {
		input string
		cfg   Config
		want  map[string][]float64
		skip  int
	}{
		"plain":             {plain, Config{}, two, 0},
		"gzip":              {packed(plain), Config{}, two, 0},
		"mark and CRLF":     {"\ufeff" + strings.ReplaceAll(plain, "\n", "\r\n"), Config{}, two, 0},
		"no last newline":   {strings.TrimSpace(plain), Config{}, two, 0},
		"blank lines":       {"\n\n" + strings.ReplaceAll(plain, "\n", "\n\n"), Config{}, two, 0},
		"no header":         {strings.TrimPrefix(plain, "timestamp,value\n"), Config{}, two, 0},
		"numbers":           {strings.TrimPrefix(plain, "timestamp,value\n"), Config{Time: "1", Value: "2", Series: "x"}, map[string][]float64{"x": {1, 2.5}}, 0},
		"semicolons":        {strings.ReplaceAll(plain, ",", ";"), Config{}, two, 0},
		"tabs":              {strings.ReplaceAll(plain, ",", "\t"), Config{}, two, 0},
		"unix seconds":      {"ts,value\n1404172800,1\n1404174600.5,2.5\n", Config{}, two, 0},
		"unix millis":       {"ts,value\n1404172800000,1\n1404174600000,2.5\n", Config{}, two, 0},
		"first numeric":     {"name,DateTime,Depth,Mag\nx,2016/01/01 00:30:04.91,1,9\ny,2016/01/01 00:30:05.00,2.5,8\n", Config{}, two, 0},
		"time unnamed":      {"when,what\n2014-07-01T00:00:00Z,1\n2014-07-01T00:30:00+00:00,2.5\n", Config{}, two, 0},
		"date besides time": {"Date,Time,Value\n2014-07-01,noon,1\n2014-07-02,noon,2.5\n", Config{}, two, 0},
		"named":             {"a,b,c\n2014-07-01,1,7\n2014-07-02,2,8\n", Config{Time: "A", Value: "C", Series: "s"}, map[string][]float64{"s": {7, 8}}, 0},
		"series guessed":    {"series,time,value\nx,2014-07-01,1\ny,2014-07-02,2\n", Config{}, map[string][]float64{"x": {1}, "y": {2}}, 0},
		"series is a value": {"time,series\n2014-07-01,1\n2014-07-02,2\n", Config{Value: "series", Series: "s"}, map[string][]float64{"s": {1, 2}}, 0},
		"series column":     {"kind,time,value\nx,2014-07-01,1\ny,2014-07-02,2\nx,2014-07-03,3\n", Config{Series: "kind"}, map[string][]float64{"x": {1, 3}, "y": {2}}, 0},
		"quotes":            {"place,time,value\n\"a, \"\"b\"\"\",2014-07-01,1\n\"two\nlines\",2014-07-02,2.5\n", Config{}, two, 0},
		"spoilt rows":       {"time,value\n2014-07-01,1\nyesterday,1\n2014-07-01,\n2014-07-01\n2014-07-01,NaN\n2014-07-01,0x10\n\"open,1\n2014-07-02,2.5\n", Config{}, two, 6},
		"equal rows":        {"time,value\n2014-07-01,1\n2014-07-01,1\n", Config{}, map[string][]float64{"stdin": {1, 1}}, 0},
		"header only":       {"time,value\n", Config{}, map[string][]float64{}, 0},
		"long row":          {"time,value\n2014-07-01,1\n2014-07-01," + strings.Repeat("1", maxRow) + "\n2014-07-02,2.5\n", Config{}, two, 1},
		"no series in row":  {"kind,time,value\n,2014-07-01,1\ny,2014-07-02,2\n", Config{Series: "kind"}, map[string][]float64{"y": {2}}, 1},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := &rowsByID{loseEvery: 2}
			tc.cfg.Input, tc.cfg.To = strings.NewReader(tc.input), startIngest(t, f)
			got, err := Run(t.Context(), tc.cfg)
			if err != nil {
				t.Fatal(err)
			}
			rows := 0
			for _, values := range tc.want {
				rows += len(values)
			}
			if got.Sent != rows || got.OK != rows || got.Rejected != 0 || got.Skipped != tc.skip || got.Rows != rows+tc.skip || len(got.Problems) != tc.skip {
				t.Errorf("result %+v, want %d rows and %d skipped", got, rows, tc.skip)
			}
			if s := f.series(); fmt.Sprint(s) != fmt.Sprint(tc.want) || f.inserted != rows {
				t.Errorf("rows %v, want %v", s, tc.want)
			}
		})
	}
}

func TestInputThatCannotBeReplayed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg  Config
		text []string
	}{
		"empty":           {Config{Input: strings.NewReader("")}, []string{"the file is empty"}},
		"blank":           {Config{Input: strings.NewReader("\n\n")}, []string{"no rows"}},
		"no file":         {Config{}, []string{"no file given"}},
		"missing file":    {Config{Path: "testdata/absent.csv"}, []string{"absent.csv", "no such file"}},
		"broken gzip":     {Config{Input: strings.NewReader("\x1f\x8bxx")}, []string{"unpack"}},
		"unknown time":    {Config{Input: strings.NewReader("a,b\n2014-07-01,1\n"), Time: "when"}, []string{`no column "when" for --time`, `the columns are "a", "b"`}},
		"unknown value":   {Config{Input: strings.NewReader("a,b\n2014-07-01,1\n"), Value: "9"}, []string{`no column "9" for --value`, `"a", "b"`}},
		"no times":        {Config{Input: strings.NewReader("a,b\nx,1\n")}, []string{"looks like times", "--time", `"a", "b"`}},
		"no numbers":      {Config{Input: strings.NewReader("a,b\n2014-07-01,x\n")}, []string{"looks like numbers", "--value", `"a", "b"`}},
		"bad series name": {Config{Input: strings.NewReader("a,b\n2014-07-01,1\n"), Series: strings.Repeat("x", 201)}, []string{"201 octets", "--series"}},
		"many columns":    {Config{Input: strings.NewReader(strings.Repeat("x,", 99) + "\n" + strings.Repeat("y,", 99) + "\n")}, []string{"and 60 more"}},
		"negative speed":  {Config{Input: strings.NewReader("a,b\n2014-07-01,1\n"), Speed: -1}, []string{"negative"}},
		"bad address":     {Config{Input: strings.NewReader("a,b\n2014-07-01,1\n"), To: "nowhere"}, []string{"HOST:PORT"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Run(t.Context(), tc.cfg)
			if err == nil {
				t.Fatal("no error")
			}
			for _, text := range tc.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q does not say %q", err, text)
				}
			}
		})
	}
}

func TestReplayingTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	f := &rowsByID{loseEvery: 3}
	addr := startIngest(t, f)
	path := filepath.Join(t.TempDir(), "load.csv.gz")
	var text strings.Builder
	text.WriteString("time,value\n")
	const rows = 5000
	for i := range rows {
		fmt.Fprintf(&text, "%d,%d\n", 1400000000+i, i%7)
	}
	if err := os.WriteFile(path, []byte(packed(text.String())), 0o600); err != nil {
		t.Fatal(err)
	}
	var last Progress
	for range 2 {
		got, err := Run(t.Context(), Config{Path: path, To: addr, Progress: func(p Progress) { last = p }})
		if err != nil || got.OK != rows || got.Rejected != 0 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
	if f.inserted != rows || f.lost == 0 || len(f.series()["load"]) != rows {
		t.Errorf("%d rows after %d lost replies, want %d", f.inserted, f.lost, rows)
	}
	if last.OK != rows || last.Read != last.Size || last.Size == 0 {
		t.Errorf("last progress %+v", last)
	}
}

func TestConflictsAreRejectedByLine(t *testing.T) {
	t.Parallel()
	f := &rowsByID{}
	in := "time,value\n2014-07-01,1\n2014-07-02,2\n"
	rec := store.Record{Series: "s", Time: time.Date(2014, 7, 2, 0, 0, 0, 0, time.UTC), Value: 2}
	id := rowID(3, rec)
	rec.Value = 9
	f.rows = map[[2]string]store.Record{{"s", id}: rec} // something else has the second row's id
	got, err := Run(t.Context(), Config{Input: strings.NewReader(in), Series: "s", To: startIngest(t, f)})
	if err != nil || got.OK != 1 || got.Rejected != 1 || !slices.Equal(got.Problems, []Problem{{3, "conflict"}}) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestTruncatedInputSendsWhatIsThere(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("time,value\n")
	for i := range 20000 {
		fmt.Fprintf(&text, "%d,%d\n", 1400000000+i*i, i*i%1009)
	}
	whole := packed(text.String())
	f := &rowsByID{}
	got, err := Run(t.Context(), Config{Input: strings.NewReader(whole[:len(whole)/2]), To: startIngest(t, f)})
	if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "after line") {
		t.Errorf("Run: %v", err)
	}
	if got.OK == 0 || got.OK != got.Sent || f.inserted != got.OK {
		t.Errorf("%+v, %d rows", got, f.inserted)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		got, err := Run(t.Context(), Config{
			Input: strings.NewReader("time,value\n2014-07-01,1\n"),
			Dial: func(context.Context, string) (net.Conn, error) {
				return nil, errors.New("connection refused")
			},
		})
		if !errors.Is(err, lineclient.ErrNoProgress) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(begun); got.Sent != 1 || got.OK != 0 || d < 30*time.Second || d > 40*time.Second {
			t.Errorf("%+v after %v", got, d)
		}
	})
}

// agree is an ingest in memory that says yes, and notes when.
func agree(at *[]time.Duration, begun time.Time) func(context.Context, string) (net.Conn, error) {
	return func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			buf := make([]byte, 64<<10)
			for {
				n, err := theirs.Read(buf)
				if err != nil {
					return
				}
				for range bytes.Count(buf[:n], []byte("\n")) {
					*at = append(*at, time.Since(begun))
					if _, err := io.WriteString(theirs, "{\"ok\": true}\n"); err != nil {
						return
					}
				}
			}
		}()
		return ours, nil
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
		defer cancel()
		got, err := Run(ctx, Config{
			Input: strings.NewReader("time,value\n2014-07-01 00:00:00,1\n2014-07-01 00:10:00,2\n2014-07-01 01:00:00,3\n"),
			Speed: 1, Dial: agree(&at, time.Now()),
		})
		if !errors.Is(err, context.DeadlineExceeded) || got.OK != 2 || got.Sent != 2 {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// TestIdleInput: who waits for input that does not come hears of the end all the
// same, before the first row and after some.
func TestIdleInput(t *testing.T) {
	t.Parallel()
	some := "time,value,note\n" + strings.Repeat("2014-07-01,1,"+strings.Repeat("x", 1000)+"\n", 100)
	refuse := func(context.Context, string) (net.Conn, error) { return nil, errors.New("connection refused") }
	for name, tc := range map[string]struct {
		text string
		end  time.Duration // of the context
		want error
		sent int
	}{
		"ended before the first row": {"", time.Minute, context.DeadlineExceeded, 0},
		"ended after some":           {some, 20 * time.Second, context.DeadlineExceeded, 100},
		"ingest is gone":             {some, time.Hour, lineclient.ErrNoProgress, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				idle, more := io.Pipe()
				defer more.Close()
				ctx, cancel := context.WithTimeout(t.Context(), tc.end)
				defer cancel()
				begun := time.Now()
				got, err := Run(ctx, Config{Input: io.MultiReader(strings.NewReader(tc.text), idle), Dial: refuse})
				if !errors.Is(err, tc.want) || got.Sent != tc.sent || time.Since(begun) > 2*time.Minute {
					t.Errorf("%+v, %v after %v, want %v", got, err, time.Since(begun), tc.want)
				}
			})
		})
	}
}
