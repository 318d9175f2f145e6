package outage

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
)

func TestEachIsSaidOnce(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	o := New(hclog.New(&hclog.LoggerOptions{Output: &log}), "it fails", "it works again")
	o.Over()
	for range 2 {
		for range 3 {
			o.Began(errors.New("why"))
		}
		for range 3 {
			o.Over()
		}
	}
	text := log.String()
	if fails, works := strings.Count(text, "it fails: error=why"), strings.Count(text, "it works again: after="); fails != 2 || works != 2 {
		t.Errorf("of two outages %d beginnings and %d ends are said:\n%s", fails, works, text)
	}
}
