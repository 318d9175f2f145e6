package setting

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEnv(t *testing.T) {
	t.Setenv("SEEDS", "1,2.5")
	t.Setenv("DURATION", "")
	var e Env
	if got := e.Numbers("SEEDS", "3"); !slices.Equal(got, []float64{1, 2.5}) {
		t.Errorf("numbers %v", got)
	}
	if got := e.Duration("DURATION", "3s"); got != 3*time.Second {
		t.Errorf("duration %v", got)
	}
	if got := e.Words("SHAPES", ""); got != nil {
		t.Errorf("words %q", got)
	}
	t.Setenv("AWAKE", "no")
	if e.Switch("AWAKE", "yes") || !e.Switch("OTHER", "yes") {
		t.Error("a switch is not as it was set, or not as it is otherwise")
	}
	if e.Err != nil {
		t.Error(e.Err)
	}
	t.Setenv("AWAKE", "maybe")
	if e.Switch("AWAKE", "yes"); e.Err == nil {
		t.Error("AWAKE=maybe is accepted")
	}
}

func TestEnvRefuses(t *testing.T) {
	for _, text := range []string{"x", "0", "-1", "1,", "1,,2"} {
		t.Setenv("SEEDS", text)
		var e Env
		if e.Number("SEEDS", "7"); e.Err == nil || !strings.Contains(e.Err.Error(), "SEEDS="+text+": ") || !strings.Contains(e.Err.Error(), "such as 7") {
			t.Errorf("SEEDS=%s: error %v", text, e.Err)
		}
	}
	for _, text := range []string{"x", "0s", "-1s", "3"} {
		t.Setenv("DURATION", text)
		var e Env
		if e.Duration("DURATION", "3s"); e.Err == nil {
			t.Errorf("DURATION=%s is accepted", text)
		}
	}
}
