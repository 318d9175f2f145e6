package push

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mdmesh/mdmesh/store"
)

const (
	defaultLimit = 1000
	maxLimit     = 10_000
)

// queryParameters are all that GET /api/rollups knows; any other is refused, so
// that a misspelt one does not silently widen the answer.
var queryParameters = []string{"series", "window", "from", "to", "limit"}

// rollups answers GET /api/rollups: the newest points of every series, or the
// history of one.
func (s *Service) rollups(w http.ResponseWriter, r *http.Request) {
	query, all, err := parseQuery(r.URL.RawQuery)
	if err != nil {
		writeError(w, http.StatusBadRequest, err.Error())
		return
	}
	var answer any
	if all {
		answer, err = s.newest(r)
	} else {
		answer, err = s.history(r, query)
	}
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, answer)
	case r.Context().Err() != nil: // nobody waits any more
	case errors.Is(err, store.ErrUnavailable):
		w.Header().Set("Retry-After", "1")
		writeError(w, http.StatusServiceUnavailable, "the store cannot be read now, try again")
	default:
		s.log.Error("query failed", "error", err, "query", r.URL.RawQuery)
		writeError(w, http.StatusInternalServerError, "the query failed, see the log of push")
	}
}

func (s *Service) newest(r *http.Request) ([]newestJSON, error) {
	points, err := s.config.Store.Newest(r.Context())
	if err != nil {
		return nil, err
	}
	bySeries := make(map[string][]windowPointJSON)
	for _, window := range store.Windows {
		for _, p := range points {
			if p.Window == window {
				bySeries[p.Series] = append(bySeries[p.Series], windowPointJSON{window, toJSON(p)})
			}
		}
	}
	list := make([]newestJSON, 0, len(bySeries))
	for series, points := range bySeries {
		list = append(list, newestJSON{series, points})
	}
	slices.SortFunc(list, func(a, b newestJSON) int { return strings.Compare(a.Series, b.Series) })
	return list, nil
}

func (s *Service) history(r *http.Request, q store.Query) (historyJSON, error) {
	points, err := s.config.Store.Points(r.Context(), q)
	answer := historyJSON{q.Series, q.Window, make([]pointJSON, 0, len(points))}
	for _, p := range points {
		answer.Points = append(answer.Points, toJSON(p))
	}
	return answer, err
}

// parseQuery reads the query string; all means that it was empty. Errors say
// what to write instead.
func parseQuery(raw string) (q store.Query, all bool, err error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, false, errors.New("the query string is malformed: percent-encode the values")
	}
	for name, given := range values {
		if !slices.Contains(queryParameters, name) {
			return q, false, fmt.Errorf("unknown parameter %q: use %s", name, strings.Join(queryParameters, ", "))
		}
		if len(given) > 1 {
			return q, false, fmt.Errorf("%s is given %d times: give it once", name, len(given))
		}
	}
	if len(values) == 0 {
		return q, true, nil
	}
	if q.Series = values.Get("series"); q.Series == "" {
		return q, false, errors.New("series is missing: add series=NAME, or ask without any parameter for the newest points of all series")
	}
	if q.Window = store.Window(values.Get("window")); !slices.Contains(store.Windows, q.Window) {
		return q, false, fmt.Errorf("unknown window %q: use 10s, minute, hour or day", q.Window)
	}
	if q.From, err = parseTime(values, "from"); err != nil {
		return q, false, err
	}
	if q.To, err = parseTime(values, "to"); err != nil {
		return q, false, err
	}
	if !q.From.IsZero() && !q.To.IsZero() && !q.From.Before(q.To) {
		return q, false, errors.New("from must be before to: from is included, to is not")
	}
	q.Limit, err = parseLimit(values)
	return q, false, err
}

func parseTime(values url.Values, name string) (time.Time, error) {
	if !values.Has(name) {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, values.Get(name))
	if err != nil || t.IsZero() {
		return time.Time{}, fmt.Errorf("%s is not a time: write RFC 3339 like 2026-11-21T10:00:00Z (a + must be sent as %%2B)", name)
	}
	return t.UTC(), nil
}

func parseLimit(values url.Values) (int, error) {
	if !values.Has("limit") {
		return defaultLimit, nil
	}
	limit, err := strconv.Atoi(values.Get("limit"))
	if err != nil || limit < 1 || limit > maxLimit {
		return 0, fmt.Errorf("limit must be a whole number from 1 to %d", maxLimit)
	}
	return limit, nil
}
