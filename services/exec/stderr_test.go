package exec

import (
	"os"
	"testing"
	"time"
)

// heard gives words and the other end of their pipe, on which say says something.
func heard(t *testing.T) (w *words, theirs *os.File, say func(string)) {
	t.Helper()
	pipe, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = pipe.Close()
		_ = theirs.Close()
	})
	return newWords(pipe), theirs, func(text string) {
		t.Helper()
		if _, err := theirs.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
}

// What was said before forget is of an earlier request, also where nobody had read it yet.
func TestWords(t *testing.T) {
	t.Parallel()
	w, theirs, say := heard(t)
	say("of the first")
	w.forget()
	say("of the second")
	go w.read()
	_ = theirs.Close()
	w.finish(time.Minute)
	if got := w.String(); got != "of the second" {
		t.Errorf("%q, want %q", got, "of the second")
	}
}

// Whoever else holds the pipe does not keep the last words from being told, even where
// the time was over before anybody read them.
func TestWordsOfTheHeldPipe(t *testing.T) {
	t.Parallel()
	w, _, say := heard(t)
	say("last words")
	go w.read()
	w.finish(0)
	if got := w.String(); got != "last words" {
		t.Errorf("%q, want %q", got, "last words")
	}
}
