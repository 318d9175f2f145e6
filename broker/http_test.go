package broker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/mdp"
)

// call runs one HTTP request against the handler, in the background.
func call(b *Broker, method, target string, body io.Reader, headers ...string) <-chan *httptest.ResponseRecorder {
	done := make(chan *httptest.ResponseRecorder, 1)
	req := httptest.NewRequest(method, target, body)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	go func() {
		w := httptest.NewRecorder()
		b.Handler().ServeHTTP(w, req)
		done <- w
	}()
	return done
}

func TestHTTPCall(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "a/b", 1)
		done := call(b, "POST", "/call/a/b?timeout=2s", strings.NewReader("hello"))
		r := w.take()
		if r.body() != "hello" || r.Head.Remaining == 0 || r.Head.Remaining > 2000 {
			t.Errorf("at the worker: %q %+v", r.body(), r.Head)
		}
		w.partial(r, "one ")
		w.answer(r, "two ", "three")
		if res := <-done; res.Code != http.StatusOK || res.Body.String() != "one two three" {
			t.Errorf("%d %q", res.Code, res.Body)
		}
		m.empty(b)
	})
}

func TestHTTPCallErrors(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxMessage = 10_000; c.MaxRequests = 1 })
		w := m.worker(b, "s", 1)
		for _, test := range []struct {
			target, body string
			headers      []string
			code         int
			status       string
		}{
			{"/call/s", "x", []string{"Origin", "http://evil.example"}, 403, ""},
			{"/call/s", "x", []string{"Sec-Fetch-Site", "cross-site"}, 403, ""},
			{"/call/s?timeout=soon", "x", nil, 400, ""},
			{"/call/s?timeout=-1s", "x", nil, 400, ""},
			{"/call/s?timeout=11m", "x", nil, 400, ""},
			{"/call/s", string(make([]byte, 10_001)), nil, 413, ""},
			{"/call/", "x", nil, 400, "BAD_REQUEST"},
			{"/call/" + strings.Repeat("s", 256), "x", nil, 400, "BAD_REQUEST"},
			{"/call/nobody?timeout=100ms", "x", nil, 504, "EXPIRED"},
			{"/call/nobody?no-wait", "x", nil, 404, "NO_WORKER"},
			{"/call/nobody?no-wait=true&timeout=1s", "x", nil, 404, "NO_WORKER"},
			{"/call/nobody?no-wait=false&timeout=100ms", "x", nil, 504, "EXPIRED"},
			{"/call/s?no-wait=soon", "x", nil, 400, ""},
			{"/call/s?timout=1s", "x", nil, 400, ""},
			{"/call/s?timeout=1s;no-wait", "x", nil, 400, ""},
		} {
			res := <-call(b, "POST", test.target, strings.NewReader(test.body), test.headers...)
			if res.Code != test.code || res.Header().Get("Md-Status") != test.status {
				t.Errorf("%s: %d %s %s", test.target, res.Code, res.Header().Get("Md-Status"), res.Body)
			}
		}
		w.quiet()
		first := call(b, "POST", "/call/s", strings.NewReader("1"))
		r := w.take()
		second := call(b, "POST", "/call/s?timeout=1s", nil)
		m.settle()
		if res := <-call(b, "POST", "/call/s", nil); res.Code != 503 || res.Header().Get("Md-Status") != "BUSY" || res.Header().Get("Retry-After") == "" {
			t.Errorf("full: %d %s", res.Code, res.Body)
		}
		if res := <-second; res.Code != 504 {
			t.Errorf("queued until the timeout: %d", res.Code)
		}
		w.refuse(r, &mdp.Error{Status: mdp.AppError, Text: "no paper", MayHaveRun: true})
		if res := <-first; res.Code != 500 || res.Header().Get("Md-May-Have-Run") != "true" || res.Header().Get("Md-Status") != "APP_ERROR" || !strings.Contains(res.Body.String(), "no paper") {
			t.Errorf("%d %s", res.Code, res.Body)
		}
		b.httpCalls.Add(maxHTTPCalls)
		if res := <-call(b, "POST", "/call/s", nil); res.Code != 503 {
			t.Errorf("too many at once: %d", res.Code)
		}
		b.httpCalls.Add(-maxHTTPCalls)
		m.empty(b)
	})
}

// TestHTTPLate: the text says the same whoever finds first that the time is over.
func TestHTTPLate(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		running := call(b, "POST", "/call/s?timeout=1s", nil)
		w.take()
		waiting := call(b, "POST", "/call/s?timeout=1s", nil)
		nobody := call(b, "POST", "/call/nobody?timeout=1s", nil)
		for _, c := range []struct {
			done <-chan *httptest.ResponseRecorder
			text string
		}{
			{running, "call s: expired: the deadline passed before the answer came\n"},
			{waiting, "call s: expired: the deadline passed while waiting for a worker\n"},
			{nobody, "call nobody: expired: the deadline passed: no worker offers \"nobody\"\n"},
		} {
			if res := <-c.done; res.Code != 504 || res.Body.String() != c.text {
				t.Errorf("%d %q, want 504 %q", res.Code, res.Body, c.text)
			}
		}
		w.expect(mdp.Cancel)
	})
}

func TestCallGivenUp(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		ctx, cancel := context.WithCancel(context.Background())
		failed := make(chan error, 1)
		go func() { _, err := b.Call(ctx, "s", []byte("x")); failed <- err }()
		r := w.take()
		cancel()
		var e *mdp.Error
		if err := <-failed; !errors.As(err, &e) || e.Status != mdp.Cancelled || !e.MayHaveRun {
			t.Errorf("got %v", err)
		}
		w.expect(mdp.Cancel)
		w.answer(r, "late")
		m.empty(b)
	})
}

func TestHTTPState(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b, stop := m.mortal("b")
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		c.ask("s", "1")
		c.ask("s", "2")
		r := w.take()
		m.pass(time.Second)
		var st State
		if err := json.Unmarshal((<-call(b, "GET", "/state", nil)).Body.Bytes(), &st); err != nil {
			t.Fatal(err)
		}
		s := st.Services[0]
		if st.Name != "b" || st.Connections != 2 || s.Name != "s" || s.Queue != 1 || s.Running != 1 || s.OldestMs != 1000 || s.Requests != 2 || st.HeldOctets != 2*(requestCost+costOf(1)) {
			t.Errorf("state %+v", st)
		}
		for _, path := range []string{"/healthz", "/readyz"} {
			if res := <-call(b, "GET", path, nil); res.Code != 200 {
				t.Errorf("%s: %d", path, res.Code)
			}
		}
		go stop()
		w.expect(mdp.Drain)
		if res := <-call(b, "GET", "/readyz", nil); res.Code != 503 {
			t.Errorf("/readyz while draining: %d", res.Code)
		}
		if res := <-call(b, "POST", "/call/s", nil); res.Code != 503 || res.Header().Get("Md-Status") != "NOT_TAKEN" {
			t.Errorf("call while draining: %d", res.Code)
		}
		w.answer(r, "")
		w.send(mdp.Command{Kind: mdp.Bye})
		w.gone()
	})
}

// Uploads count as they come: those that send nothing keep nobody out.
func TestIdleUploadsTakeNoRoom(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxTotalBytes = 100_000 })
		w, c := m.worker(b, "s", 1), m.client(b, "c")
		var uploads []*io.PipeWriter
		var calls []<-chan *httptest.ResponseRecorder
		for range 16 {
			r, w := io.Pipe() // of unknown length
			uploads = append(uploads, w)
			calls = append(calls, call(b, "POST", "/call/s", r))
		}
		m.settle()
		if n := b.held.Load(); n != 0 {
			t.Errorf("%d octets are held of nothing", n)
		}
		h := c.ask("s", "x")
		w.answer(w.take(), "y")
		c.answered(h, mdp.OK, "y")
		for i, upload := range uploads {
			go upload.Write(make([]byte, 10_000))
			m.settle()
			if n := b.held.Load(); i < 5 && n != int64(i+1)*10_000 {
				t.Errorf("%d octets are held of %d uploads", n, i+1)
			}
		}
		refused := 0
		for i, done := range calls {
			defer uploads[i].Close()
			select {
			case res := <-done:
				refused++
				if res.Code != 503 || res.Header().Get("Md-Status") != "BUSY" {
					t.Errorf("%d %s", res.Code, res.Body)
				}
			default:
				uploads[i].CloseWithError(io.ErrUnexpectedEOF)
				<-done
			}
		}
		if refused != 11 { // together they have half of the total, as one client has
			t.Errorf("%d refused", refused)
		}
		m.wantCount(b, "http_refused", 11)
		m.empty(b)
	})
}
