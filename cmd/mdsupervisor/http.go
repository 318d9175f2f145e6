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

// web serves HTTP at address, if that is not "": GET /status is the JSON of
// "mdsupervisor -o json status", /healthz is 200 as long as the supervisor's loop
// turns. Nothing can be changed here.
type web struct {
	address    string
	log        hclog.Logger
	supervisor *supervisor.Supervisor

	server *http.Server // nil: not started
	wg     sync.WaitGroup
}

// listen binds the address and serves until close.
func (w *web) listen() error {
	if w.address == "" {
		return nil
	}
	l, err := net.Listen("tcp", w.address)
	if err != nil {
		return cli.Exitf(cli.Unavailable, "%w; choose another address with --http", err)
	}
	cli.Listening("http", "http://"+l.Addr().String())
	w.server = &http.Server{
		Handler:           handler(w.supervisor),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	w.wg.Go(func() {
		if err := w.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			w.log.Error("http ended", "error", err)
		}
	})
	return nil
}

func (w *web) close() {
	if w.server != nil {
		_ = w.server.Close()
		w.wg.Wait()
	}
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
