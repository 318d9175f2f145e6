package pipeline

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/mdmesh/mdmesh/test/meshproc"
)

// page is a headless Chromium that shows the page; nil where there is none.
type page struct {
	t   testing.TB
	ctx context.Context
}

const noChromium = "no chromium in PATH: install the Debian package chromium to have the page tested, too"

// openPage shows url until the test ends. Without a browser it returns nil, which
// is a failure on CI.
func openPage(t testing.TB, url string) *page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(noChromium)
		}
		return nil
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()), chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(meshproc.Guard))
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root
	}
	allocator, stop := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(stop)
	ctx, closeTab := chromedp.NewContext(allocator)
	t.Cleanup(closeTab)
	t.Cleanup(func() { chromedp.Cancel(ctx) })
	if err := chromedp.Do(ctx, chromedp.Navigate(url)); err != nil {
		t.Fatal(err)
	}
	return &page{t, ctx}
}

// seen is what the page says of itself.
type seen struct {
	Rollups int    `json:"rollups"`
	State   string `json:"state"`
	Charts  int    `json:"charts"`
}

func (p *page) look() (s seen, err error) {
	return chromedp.Run(p.ctx, chromedp.Evaluate[seen](`({
		rollups: Number(document.documentElement.dataset.rollups || 0),
		state: document.documentElement.dataset.state || '',
		charts: document.querySelectorAll('.card canvas').length,
	})`))
}

// grows waits until the page, live, has got more roll-ups by websocket than it
// has now.
func (p *page) grows() {
	p.t.Helper()
	if p == nil {
		return
	}
	before, err := p.look()
	if err != nil {
		p.t.Fatal(err)
	}
	meshproc.Eventually(p.t, "the page gets more roll-ups", func() error {
		now, err := p.look()
		if err == nil && (now.State != "live" || now.Rollups <= before.Rollups) {
			err = fmt.Errorf("%+v, before %+v", now, before)
		}
		return err
	})
}
