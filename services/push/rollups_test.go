package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/store/mem"
)

// get asks and returns status, header and body.
func get(t *testing.T, url string) (int, http.Header, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: guard}
	response, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(body)
}

func TestNewestOfAllSeries(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	_, addr := serve(t, Config{Store: st})
	if status, _, body := get(t, "http://"+addr+"/api/rollups"); status != 200 || body != "[]\n" {
		t.Errorf("empty store: %d %s", status, body)
	}
	minute := tenSeconds("b", 0, 4)
	minute.Window = store.Minute
	st.PutPoints(minute, tenSeconds("b", 0, 1), tenSeconds("b", 1, 2.5), tenSeconds("a/ü", 0, -3))
	status, header, body := get(t, "http://"+addr+"/api/rollups")
	want := `[{"series":"a/ü","points":[{"window":"10s","start":"2026-11-21T12:00:00Z","count":1,"sum":-3,"min":-3,"max":-3,"mean":-3,"last":-3,"rev":4}]},` +
		`{"series":"b","points":[{"window":"10s","start":"2026-11-21T12:00:10Z","count":1,"sum":2.5,"min":2.5,"max":2.5,"mean":2.5,"last":2.5,"rev":3},` +
		`{"window":"minute","start":"2026-11-21T12:00:00Z","count":1,"sum":4,"min":4,"max":4,"mean":4,"last":4,"rev":1}]}]` + "\n"
	if status != 200 || body != want {
		t.Errorf("%d %s\nwant %s", status, body, want)
	}
	if got := header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
}

func TestNewestIsSortedBySeries(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	for _, series := range strings.Fields("b a.b a/b B é z a- a 10 9 a.b.c ~ aa _ Z 1") {
		st.PutPoints(tenSeconds(series, 0, 1))
	}
	_, addr := serve(t, Config{Store: st})
	_, _, body := get(t, "http://"+addr+"/api/rollups")
	var answer []struct{ Series string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, item := range answer {
		got = append(got, item.Series)
	}
	if len(got) != 16 || !slices.IsSorted(got) {
		t.Errorf("order %q", got)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	for n := range 1200 {
		st.PutPoints(tenSeconds("a.b c", n, float64(n)))
	}
	_, addr := serve(t, Config{Store: st})
	at := func(n int) string { return noon.Add(time.Duration(n) * 10 * time.Second).Format(time.RFC3339) }
	tests := []struct {
		name        string
		query       string
		first, last int // numbers of the points expected
	}{
		{"newest 1,000 by default", "", 200, 1199},
		{"limit keeps the newest", "&limit=3", 1197, 1199},
		{"largest limit", "&limit=10000", 0, 1199},
		{"from is included", "&limit=5000&from=" + at(1190), 1190, 1199},
		{"to is not", "&to=" + at(3), 0, 2},
		{"from, to and limit", "&limit=2&from=" + at(10) + "&to=" + at(20), 18, 19},
		{"another zone", "&from=2026-11-21T13:00:00%2B01:00&to=" + at(2), 0, 1},
		{"nothing in between", "&from=" + at(5000), 1, 0},
	}
	for _, test := range tests {
		status, _, body := get(t, "http://"+addr+"/api/rollups?series=a.b%20c&window=10s"+test.query)
		var answer struct {
			Series, Window string
			Points         []struct{ Start string }
		}
		if err := json.Unmarshal([]byte(body), &answer); err != nil || status != 200 {
			t.Errorf("%s: %d %v %.200s", test.name, status, err, body)
			continue
		}
		var got, want []string
		for _, p := range answer.Points {
			got = append(got, p.Start)
		}
		for n := test.first; n <= test.last; n++ {
			want = append(want, at(n))
		}
		if answer.Series != "a.b c" || answer.Window != "10s" || !slices.Equal(got, want) {
			t.Errorf("%s: %d points of %q %q, want numbers %d to %d", test.name, len(got), answer.Series, answer.Window, test.first, test.last)
		}
	}
}

func TestHistoryShape(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	huge := tenSeconds("a", 0, 1e300)
	huge.Sum = math.MaxFloat64
	st.PutPoints(huge)
	_, addr := serve(t, Config{Store: st})
	want := `{"series":"a","window":"10s","points":[{"start":"2026-11-21T12:00:00Z","count":1,"sum":1.7976931348623157e+308,"min":1e+300,"max":1e+300,"mean":1e+300,"last":1e+300,"rev":1}]}` + "\n"
	if status, _, body := get(t, "http://"+addr+"/api/rollups?series=a&window=10s"); status != 200 || body != want {
		t.Errorf("%d %s want %s", status, body, want)
	}
	want = `{"series":"nobody","window":"day","points":[]}` + "\n"
	if status, _, body := get(t, "http://"+addr+"/api/rollups?series=nobody&window=day"); status != 200 || body != want {
		t.Errorf("unknown series: %d %s want %s", status, body, want)
	}
}

func TestBadQueriesSayWhatToDo(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, Config{Store: mem.NewStore()})
	tests := []struct{ query, says string }{
		{"window=10s", "series=NAME"},
		{"series=&window=10s", "series=NAME"},
		{"series=a", "use 10s, minute, hour or day"},
		{"series=a&window=week", "use 10s, minute, hour or day"},
		{"series=a&window=10s&from=yesterday", "from is not a time: write RFC 3339"},
		{"series=a&window=10s&from=", "from is not a time"},
		{"series=a&window=10s&to=2026-11-21", "to is not a time"},
		{"series=a&window=10s&from=2026-11-21T10:00:00+01:00", "%2B"},
		{"series=a&window=10s&from=2026-11-21T10:00:00Z&to=2026-11-21T10:00:00Z", "from must be before to"},
		{"series=a&window=10s&limit=0", "from 1 to 10000"},
		{"series=a&window=10s&limit=10001", "from 1 to 10000"},
		{"series=a&window=10s&limit=ten", "from 1 to 10000"},
		{"series=a&window=10s&limit=", "from 1 to 10000"},
		{"series=a&window=10s&limits=5", `unknown parameter "limits": use series, window, from, to, limit`},
		{"pretty=1", "unknown parameter"},
		{"series=a&series=b&window=10s", "give it once"},
		{"series=%zz&window=10s", "percent-encode"},
	}
	for _, test := range tests {
		status, header, body := get(t, "http://"+addr+"/api/rollups?"+test.query)
		var answer map[string]string
		if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer) != 1 {
			t.Errorf("%s: not one error: %s", test.query, body)
		}
		if status != http.StatusBadRequest || !strings.Contains(answer["error"], test.says) || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s, want 400 and %q", test.query, status, body, test.says)
		}
	}
}

func TestStoreFailures(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	_, addr := serve(t, Config{Store: st})
	st.Fail(errors.New("secret path of the file"))
	for _, query := range []string{"", "?series=a&window=10s"} {
		status, header, body := get(t, "http://"+addr+"/api/rollups"+query)
		if status != 503 || header.Get("Retry-After") == "" || strings.Contains(body, "secret") || !strings.Contains(body, "try again") {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
	st.Fail(nil)
	if status, _, body := get(t, "http://"+addr+"/api/rollups"); status != 200 {
		t.Errorf("healed: %d %s", status, body)
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, seed := range []string{"", "series=a&window=10s", "series=a&window=day&from=2026-11-21T10:00:00Z&limit=7", "%zz", "a=b;c", "limit=99999999999999999999"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		q, all, err := parseQuery(raw)
		switch {
		case err != nil:
			if err.Error() == "" {
				t.Error("an error without a word")
			}
		case all:
			if q != (store.Query{}) {
				t.Errorf("all series, and yet %+v", q)
			}
		case q.Series == "" || !slices.Contains(store.Windows, q.Window) || q.Limit < 1 || q.Limit > maxLimit:
			t.Errorf("%q was accepted as %+v", raw, q)
		case !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To):
			t.Errorf("%q: %s", raw, fmt.Sprint(q.From, q.To))
		}
	})
}
