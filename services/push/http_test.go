package push

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mdmesh/mdmesh/store/mem"
)

func TestPageAndItsFiles(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, Config{Store: mem.NewStore()})
	tests := []struct{ path, contentType, has string }{
		{"/", "text/html; charset=utf-8", "<title>mdmesh</title>"},
		{"/js/main.js", "text/javascript; charset=utf-8", "import"},
		{"/css/base.css", "text/css; charset=utf-8", ":root"},
		{"/icon.svg", "image/svg+xml", "<svg"},
		{"/vendor/uPlot.esm.js", "text/javascript; charset=utf-8", "export { uPlot as default }"},
		{"/vendor/uPlot.LICENSE", "text/plain; charset=utf-8", "MIT"},
	}
	for _, test := range tests {
		status, header, body := get(t, "http://"+addr+test.path)
		if status != 200 || header.Get("Content-Type") != test.contentType || !strings.Contains(body, test.has) {
			t.Errorf("%s: %d %s", test.path, status, header.Get("Content-Type"))
		}
		if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", test.path, csp)
		}
		if header.Get("X-Content-Type-Options") != "nosniff" || header.Get("ETag") == "" {
			t.Errorf("%s: header %v", test.path, header)
		}
	}
}

// The page is to work without any other server, and its policy forbids inline code.
func TestPageIsSelfContained(t *testing.T) {
	t.Parallel()
	files, err := loadPage()
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if strings.HasPrefix(name, "vendor/") {
			continue
		}
		text := strings.ReplaceAll(string(f.content), `xmlns="http://www.w3.org/2000/svg"`, "")
		for _, forbidden := range []string{"http://", "https://", "//cdn", " style=\"", "onclick=", "<style"} {
			if strings.Contains(text, forbidden) {
				t.Errorf("%s contains %q", name, forbidden)
			}
		}
	}
}

func TestUnchangedFileIsNotSentAgain(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, Config{Store: mem.NewStore()})
	_, header, _ := get(t, "http://"+addr+"/")
	request, _ := http.NewRequest(http.MethodGet, "http://"+addr+"/", nil)
	request.Header.Set("If-None-Match", header.Get("ETag"))
	response := do(t, request)
	if response.StatusCode != http.StatusNotModified {
		t.Errorf("status %d", response.StatusCode)
	}
}

func TestWrongPathsAndMethods(t *testing.T) {
	t.Parallel()
	_, addr := serve(t, Config{Store: mem.NewStore()})
	tests := []struct {
		method, path string
		status       int
	}{
		{"GET", "/nothing", 404},
		{"GET", "/js/../../push.go", 307}, // to /push.go, which is not there
		{"GET", "/push.go", 404},
		{"GET", "/js", 404},
		{"GET", "/api/other", 404},
		{"POST", "/api/rollups", 405},
		{"DELETE", "/", 405},
		{"HEAD", "/", 200},
		{"GET", "/ws", 400},
	}
	for _, test := range tests {
		request, err := http.NewRequest(test.method, "http://"+addr+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response := do(t, request)
		if response.StatusCode != test.status || response.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s %s: %d, want %d", test.method, test.path, response.StatusCode, test.status)
		}
	}
}

func do(t *testing.T, request *http.Request) *http.Response {
	t.Helper()
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response
}

func TestHealth(t *testing.T) {
	t.Parallel()
	st := mem.NewStore()
	st.PutPoints(tenSeconds("a", 0, 1))
	_, addr := serve(t, Config{Store: st, Poll: time.Millisecond})
	// waitFor asks until the answer is the one wanted, or the guard strikes.
	waitFor := func(status int, text string) {
		t.Helper()
		for end := time.Now().Add(guard); ; {
			got, _, body := get(t, "http://"+addr+"/healthz")
			var answer struct{ Status string }
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(err)
			}
			if got == status && answer.Status == text {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("health stays %d %s, want %d %s", got, body, status, text)
			}
		}
	}
	waitFor(200, "ok")
	st.Fail(errors.New("gone"))
	waitFor(503, "store unavailable")
	st.Fail(nil)
	waitFor(200, "ok")
}
