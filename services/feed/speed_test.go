package feed

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSpeed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		var reports int
		got, err := Run(t.Context(), Config{
			// The third row is late and the fourth before the third.
			Input: strings.NewReader("time,value\n2014-07-01 00:00:00,1\n2014-07-01 00:10:00,2\n2014-07-01 00:05:00,3\n2014-07-01 01:00:00,4\n"),
			Speed: 60, Dial: agree(&at, time.Now()), Progress: func(Progress) { reports++ },
		})
		want := []time.Duration{0, 10 * time.Second, 10 * time.Second, time.Minute}
		if err != nil || got.OK != 4 || !slices.Equal(at, want) || got.Seconds != 60 {
			t.Errorf("%+v, %v: rows came at %v, want %v", got, err, at, want)
		}
		if reports < 59 || reports > 61 {
			t.Errorf("%d reports in a minute", reports)
		}
	})
}

func TestParseSpeed(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]float64{"max": Max, "MAX": Max, "1": 1, "60x": 60, "0.5": 0.5} {
		if got, err := ParseSpeed(text); err != nil || got != want {
			t.Errorf("ParseSpeed(%q) = %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "fast", "inf", "nan", "x"} {
		if _, err := ParseSpeed(text); err == nil || !strings.Contains(err.Error(), "want max") {
			t.Errorf("ParseSpeed(%q): %v", text, err)
		}
	}
}
