package broker

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// reader is whoever asked by HTTP, on a connection that has deadlines.
type reader struct {
	*httptest.ResponseRecorder
	deadline time.Time
	wrote    time.Time     // when the answer began
	left     time.Duration // of the deadline, when the answer began
	reads    chan struct{} // closed when it reads; nil: it does
}

func (r *reader) SetWriteDeadline(at time.Time) error {
	r.deadline = at
	return nil
}

func (r *reader) WriteHeader(code int) {
	r.begin()
	r.ResponseRecorder.WriteHeader(code)
}

func (r *reader) Write(p []byte) (int, error) {
	r.begin()
	if r.reads != nil {
		<-r.reads
	}
	return r.ResponseRecorder.Write(p)
}

func (r *reader) WriteString(s string) (int, error) { return r.Write([]byte(s)) }

func (r *reader) begin() {
	if r.wrote.IsZero() {
		r.wrote, r.left = time.Now(), time.Until(r.deadline)
	}
}

// ask runs one request for the reader, and closes what it returns when that is over.
func (r *reader) ask(b *Broker, method, target string) (done chan struct{}) {
	r.ResponseRecorder = httptest.NewRecorder()
	done = make(chan struct{})
	go func() {
		defer close(done)
		b.Handler().ServeHTTP(r, httptest.NewRequest(method, target, strings.NewReader("x")))
	}()
	return done
}

// Whoever asks by HTTP has 30 s to take the answer, from when there is one.
func TestEveryReplyHasADeadline(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b")
		w := m.worker(b, "s", 1)
		for _, route := range []string{"GET /healthz", "GET /readyz", "GET /state", "POST /peers/p/pause", "POST /peers/p/resume",
			"GET /nowhere", "POST /call/", "POST /call/s?timeout=never", "POST /call/nobody?timeout=1m", "POST /call/s?timeout=2m"} {
			method, target, _ := strings.Cut(route, " ")
			var r reader
			done := r.ask(b, method, target)
			if strings.HasSuffix(route, "/s?timeout=2m") {
				request := w.take()
				m.pass(time.Minute)
				w.answer(request, "y")
			}
			<-done
			if r.wrote.IsZero() || r.left != maxReplyTime {
				t.Errorf("%s: the answer may take %v", route, r.left)
			}
		}
	})
}

// Answers that callers do not take are bounded as those of connections are: beyond it a
// call fails, unless its answer is small.
func TestRepliesNobodyTakesAreBounded(t *testing.T) {
	inBubble(t, func(m *mesh) {
		b := m.broker("b", func(c *Config) { c.MaxUnread = 1 << 20 })
		w := m.worker(b, "s", 10)
		ask := func(r *reader, size int) (done chan struct{}) {
			done = r.ask(b, "POST", "/call/s")
			w.answer(w.take(), string(make([]byte, size)))
			m.settle()
			return done
		}
		const large = 300 << 10
		first := &reader{reads: make(chan struct{})}
		taken := ask(first, large)
		if n := b.Unread(); n < large {
			t.Errorf("%d octets are unread while one does not read", n)
		}
		var second, third, fourth reader
		<-ask(&second, large)
		if second.Code != http.StatusServiceUnavailable || second.Header().Get("Md-Status") != "BUSY" || second.Header().Get("Md-May-Have-Run") != "true" || second.Header().Get("Retry-After") != "" {
			t.Errorf("where too much is unread: %d %.100s", second.Code, second.Body)
		}
		m.wantCount(b, "answers_dropped", 1)
		<-ask(&third, 1<<10)
		if third.Code != http.StatusOK || third.Body.Len() != 1<<10 {
			t.Errorf("a small answer: %d with %d octets", third.Code, third.Body.Len())
		}
		close(first.reads)
		<-taken
		if n := b.Unread(); n != 0 || first.Body.Len() != large {
			t.Errorf("%d octets are unread when all was taken: %d", n, first.Body.Len())
		}
		<-ask(&fourth, 600<<10) // more than the bound, when nothing else waits
		if fourth.Code != http.StatusOK || fourth.Body.Len() != 600<<10 {
			t.Errorf("when all was taken: %d with %d octets", fourth.Code, fourth.Body.Len())
		}
		m.wantCount(b, "answers_dropped", 1)
		m.empty(b)
	})
}
