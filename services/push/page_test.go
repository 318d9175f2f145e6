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
