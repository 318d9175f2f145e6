package push

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
)

// The page brings everything itself: nothing may come from or go to elsewhere,
// and nobody may frame it.
const contentSecurityPolicy = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// handler routes all paths. Websockets live until ctx ends.
func (s *Service) handler(ctx context.Context) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/api/rollups", s.rollups)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, http.StatusNotFound, "no such path: use /api/rollups")
	})
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/ws", func(w http.ResponseWriter, r *http.Request) { s.websocket(ctx, w, r) })
	mux.HandleFunc("/", s.page)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentSecurityPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			h.Set("Allow", "GET, HEAD")
			writeError(w, http.StatusMethodNotAllowed, "only GET and HEAD are served here")
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// healthz answers 200 while the store can be read, else 503 and why.
func (s *Service) healthz(w http.ResponseWriter, r *http.Request) {
	stats := s.Stats()
	answer := struct {
		Status  string            `json:"status"`
		Error   string            `json:"error,omitempty"`
		Series  int               `json:"series"`
		Rev     int64             `json:"rev"`
		Clients int               `json:"clients"`
		Points  uint64            `json:"points"`
		Ended   map[string]uint64 `json:"ended"`
	}{"ok", "", stats.Cache.Series, stats.Cache.Rev, stats.Clients, stats.Points, stats.Ended}
	status := http.StatusOK
	switch broken := s.follower.broken.Load(); {
	case broken != nil:
		status, answer.Status, answer.Error = http.StatusServiceUnavailable, "store unavailable", (*broken).Error()
	case !s.follower.loaded.Load():
		status, answer.Status = http.StatusServiceUnavailable, "loading"
	}
	writeJSON(w, status, answer)
}

// page serves the embedded files. Browsers ask again each time and mostly get 304.
func (s *Service) page(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	f, ok := s.files[name]
	if !ok {
		http.Error(w, "no such page: start at /", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", f.etag)
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", f.contentType)
	w.Write(f.content)
}

func writeJSON(w http.ResponseWriter, status int, answer any) {
	body, err := json.Marshal(answer)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func writeError(w http.ResponseWriter, status int, text string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{text})
}
