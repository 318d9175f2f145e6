package main

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/supervisor"
)

// statusTimeout bounds how long a request waits for the supervisor's loop.
const statusTimeout = 5 * time.Second

// serveHTTP binds address ("" = nothing) and serves until stop is called: GET
// /status is the JSON of "mdsupervisor -o json status", /healthz is 200 as long
// as the supervisor's loop turns. Nothing can be changed here.
func serveHTTP(address string, s *supervisor.Supervisor, log hclog.Logger) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, cli.Exitf(cli.Unavailable, "%w; choose another address with --http", err)
	}
	cli.Listening("http", "http://"+l.Addr().String())
	server := &http.Server{
		Handler:           handler(s),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("http ended", "error", err)
		}
	})
	return func() { server.Close(); wg.Wait() }, nil
}

func handler(s *supervisor.Supervisor) http.Handler {
	mux := http.NewServeMux()
	status := func(w http.ResponseWriter, r *http.Request) []supervisor.ChildStatus {
		ctx, cancel := context.WithTimeout(r.Context(), statusTimeout)
		defer cancel()
		children, err := s.Status(ctx)
		if err != nil {
			http.Error(w, "the supervisor does not answer: "+err.Error(), http.StatusServiceUnavailable)
			return nil
		}
		return children
	}
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		if children := status(w, r); children != nil {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(children)
		}
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if status(w, r) != nil {
			_, _ = w.Write([]byte("ok\n"))
		}
	})
	return mux
}
