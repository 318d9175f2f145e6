package push

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/mdmesh/mdmesh/store/mem"
)

// browser starts a headless Chromium, or skips the test where there is none;
// on CI that is a failure. It ends with the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-headless-shell", "/usr/bin/chromium", "/usr/bin/chromium-headless-shell"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const why = "no chromium or chromium-headless-shell in PATH: install the Debian package chromium to test the page"
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(2*guard))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	limited, cancel := context.WithTimeout(allocator, 4*guard)
	t.Cleanup(cancel)
	ctx, closeTab := chromedp.NewContext(limited)
	t.Cleanup(closeTab)
	t.Cleanup(func() { chromedp.Cancel(ctx) })
	return ctx
}

// watchConsole collects what the page complains about. Call the result to get it.
func watchConsole(ctx context.Context) func() []string {
	ctx, stop := context.WithCancel(ctx)
	messages := chromedp.Console(ctx)
	result := make(chan []string, 1)
	go func() {
		var complaints []string
		for m, err := range messages {
			if err != nil {
				break
			}
			switch m.Type {
			case chromedp.ConsoleError, chromedp.ConsoleException, chromedp.ConsoleWarning:
				complaints = append(complaints, m.String())
			}
		}
		result <- complaints
	}()
	return func() []string {
		stop()
		return <-result
	}
}

// eventually asks the page until the JavaScript expression is true.
func eventually(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	var last error
	for end := time.Now().Add(2 * guard); time.Now().Before(end); <-time.After(20 * time.Millisecond) {
		var ok bool
		if ok, last = chromedp.Run(ctx, chromedp.Evaluate[bool](expression)); ok {
			return
		}
		if ctx.Err() != nil {
			break
		}
	}
	state, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`JSON.stringify(document.documentElement.dataset) + document.body.innerText.slice(0, 500)`))
	t.Fatalf("the page never came to %s\nlast error: %v\npage: %s", expression, last, state)
}

func open(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
}

// act runs a JavaScript statement.
func act(t *testing.T, ctx context.Context, statement string) {
	t.Helper()
	if _, err := chromedp.Run(ctx, chromedp.Evaluate[bool](statement+"; true")); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

const card = `document.querySelector('[data-series="%s"]')`

func TestPage(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	st := mem.NewStore()
	s, addr := serve(t, Config{Store: st})
	if err := chromedp.Do(ctx, chromedp.Navigate("about:blank")); err != nil {
		t.Fatal(err)
	}
	complaints := watchConsole(ctx)
	open(t, ctx, "http://"+addr+"/")
	eventually(t, ctx, `document.title === 'mdmesh' && document.documentElement.dataset.state === 'live'`)
	eventually(t, ctx, `!document.getElementById('empty').hidden`)

	const odd = `<img src=x onerror=alert(1)>/&amp;`
	for n := range 30 {
		st.PutPoints(tenSeconds("cpu.core0", n, float64(40+n%7)), tenSeconds("net/eth0", n, 1.5e6), tenSeconds(odd, n, -1))
	}
	s.Hint()
	eventually(t, ctx, fmt.Sprintf(card+`?.querySelector('canvas') != null`, "cpu.core0"))
	eventually(t, ctx, `document.querySelectorAll('.card canvas').length === 3 && document.getElementById('empty').hidden`)
	eventually(t, ctx, `[...document.querySelectorAll('.group h2 span')].map((e) => e.textContent).join() === '<img src=x onerror=alert(1)>,cpu,net'`)
	eventually(t, ctx, fmt.Sprintf(card+`.innerText.includes('1.50\u202fM')`, "net/eth0"))

	for n := 30; n < 33; n++ {
		before, err := chromedp.Run(ctx, chromedp.Evaluate[int](`Number(document.documentElement.dataset.rollups)`))
		if err != nil || before == 0 {
			t.Fatalf("dataset.rollups %d %v", before, err)
		}
		st.PutPoints(tenSeconds("cpu.core0", n, float64(100+n)))
		s.Hint()
		eventually(t, ctx, fmt.Sprintf(`Number(document.documentElement.dataset.rollups) === %d`, before+1))
		eventually(t, ctx, fmt.Sprintf(card+`.innerText.includes('%d')`, "cpu.core0", 100+n))
	}

	act(t, ctx, fmt.Sprintf(card+`.click()`, "cpu.core0"))
	eventually(t, ctx, `document.getElementById('detail').open && document.querySelector('#detail-chart canvas') != null`)
	eventually(t, ctx, `location.hash === '#series=cpu.core0' && document.title === 'cpu.core0 · mdmesh'`)
	eventually(t, ctx, `document.getElementById('readout').textContent.startsWith('33 windows')`)
	act(t, ctx, `document.querySelector('#detail-windows input[value=minute]').click()`)
	eventually(t, ctx, `document.getElementById('detail-note').textContent.includes('No roll-ups of this length')`)
	act(t, ctx, `history.back()`)
	eventually(t, ctx, `!document.getElementById('detail').open`)

	act(t, ctx, `const find = document.getElementById('find'); find.value = 'ETH'; find.dispatchEvent(new Event('input'))`)
	eventually(t, ctx, `document.querySelectorAll('.card:not([hidden])').length === 1 && location.hash.includes('find=ETH')`)
	if got := complaints(); len(got) > 0 {
		t.Errorf("the page complains: %s", strings.Join(got, "\n"))
	}
}

// TestCards looks at what a newcomer reads: every figure of a card is a mean, says so
// and has its unit, and nothing is cut at any width.
func TestCards(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	st := mem.NewStore()
	long := "mesh." + strings.Repeat("unbroken", 20) + ".rss_bytes"
	for n := range 30 {
		for _, series := range []string{"memory.used_bytes", "disk.vda.read_bytes", "mesh.mdservice.hostmetrics.cpu", long} {
			p := tenSeconds(series, n, float64(n+1)*(1<<29)) // half a GiB more each
			p.Min, p.Max, p.Last = -1e300, 1e300, 7e299
			st.PutPoints(p)
		}
	}
	_, addr := serve(t, Config{Store: st})
	open(t, ctx, "http://"+addr+"/")
	for series, want := range map[string]string{
		"memory.used_bytes":   "used_bytes|15.0\u202fGiB|mean of 10 s over 5 min||low 512\u202fMiB high 15.0\u202fGiB",
		"disk.vda.read_bytes": "vda.read_bytes|16.1\u202fGB/s|mean of 10 s over 5 min||low 537\u202fMB/s high 16.1\u202fGB/s",
	} {
		eventually(t, ctx, fmt.Sprintf(`[...`+card+`.children].map((e) => e.textContent).join('|') === %q`, series, want))
	}
	eventually(t, ctx, `document.getElementById('legend').innerText.startsWith('Large: the mean of the newest 10 s so far.')`)

	for _, width := range []int64{360, 800, 1400} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 900)); err != nil {
			t.Fatal(err)
		}
		eventually(t, ctx, fmt.Sprintf(`innerWidth === %d && document.documentElement.scrollWidth <= innerWidth`, width))
		eventually(t, ctx, `[...document.querySelectorAll('.card, .card > :not(.spark), .legend')].every((e) =>
			e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight + 1)`)
	}

	act(t, ctx, fmt.Sprintf(card+`.click()`, "memory.used_bytes"))
	eventually(t, ctx, `document.querySelector('.detail-value').textContent === '15.0\u202fGiB mean of 10 s'`)
}

// TestNumbers asks the page's own modules.
func TestNumbers(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	_, addr := serve(t, Config{Store: mem.NewStore()})
	open(t, ctx, "http://"+addr+"/")
	act(t, ctx, `Promise.all([import('/js/format.js'), import('/js/units.js')]).then(([f, u]) => {
		window.text = (series, n) => f.number(n, u.unitOf(series), 3).replace('\u202f', ' ');
	})`)
	eventually(t, ctx, `window.text !== undefined`)
	tests := []struct {
		series string
		value  float64
		want   string
	}{
		{"cpu.total", 12.3456, "12.3 %"},
		{"web1.cpu.0", 100, "100 %"},
		{"cpu.core0", 40, "40"}, // not a name of hostmetrics: may be anything
		{"mesh.mdservice.push.cpu", 0.494, "0.494 %"},
		{"load.1m", 0.45, "0.45"},
		{"mesh.mdbroker.fds", 131, "131"},
		{"orders", 9120, "9,120"},
		{"orders", 9999.6, "10.0 k"},
		{"orders", 999_950, "1.00 M"},
		{"orders", -45_600, "−45.6 k"},
		{"orders", 6e23, "6.00e+23"},
		{"orders", 2e-7, "2.00e−7"},
		{"orders", 0, "0"},
		{"memory.used_bytes", 0, "0 B"},
		{"memory.used_bytes", 1000, "1,000 B"},
		{"memory.used_bytes", 1 << 20, "1.00 MiB"},
		{"memory.used_bytes", 1023 << 20, "1,023 MiB"},
		{"mesh.mdbroker.rss_bytes", 50_855_936, "48.5 MiB"},
		{"web1.net.eth0.100.rx_bytes", 1000, "1.00 kB/s"},
		{"disk.vda.write_bytes", 8.96e6, "8.96 MB/s"},
		{"link.octets_per_second", 12, "12 B/s"},
		{"jobs.done_per_second", 12_000, "12.0 k/s"},
		{"queue.percent", 5.5, "5.5 %"},
		{"queue.wait_ms", 0.25, "250 µs"},
		{"queue.wait_ms", 1500, "1.50 s"},
		{"queue.wait_us", 3.2, "3.2 µs"},
		{"queue.age_seconds", 90, "1.50 min"},
		{"uptime_seconds", 3 * 86400, "3.00 d"},
		{"items", 5, "5"}, // ends in ms, but not as a word
	}
	for _, test := range tests {
		got, err := chromedp.Run(ctx, chromedp.Evaluate[string](fmt.Sprintf(`text(%q, %v)`, test.series, test.value)))
		if err != nil || got != test.want {
			t.Errorf("%s %v is shown as %q, want %q (%v)", test.series, test.value, got, test.want, err)
		}
	}
}

func TestPageComesBack(t *testing.T) {
	t.Parallel()
	ctx := browser(t)
	st := mem.NewStore()
	st.PutPoints(tenSeconds("cpu.core0", 0, 1))
	first, err := New(Config{Store: st, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	bound := make(chan string, 1)
	first.config.Listening = func(addr string) { bound <- addr }
	running, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- first.Run(running) }()
	addr := <-bound
	open(t, ctx, "http://"+addr+"/#series=cpu.core0")
	eventually(t, ctx, `document.getElementById('readout').textContent.startsWith('1 window ')`)

	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	eventually(t, ctx, `document.documentElement.dataset.state === 'reconnecting'`)
	for n := range 20 {
		st.PutPoints(tenSeconds("cpu.core0", n, float64(n)))
	}
	run(t, Config{Store: st, Listen: addr})
	eventually(t, ctx, `document.documentElement.dataset.state === 'live'`)
	// only the newest point comes by websocket: what was missed is read again
	eventually(t, ctx, `document.getElementById('readout').textContent.startsWith('20 windows')`)
}
