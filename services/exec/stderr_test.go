package exec

import (
	"os"
	"testing"
	"time"
)

// What was said before forget is of an earlier request, also where nobody had read it yet.
func TestWords(t *testing.T) {
	t.Parallel()
	pipe, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer theirs.Close()
	say := func(text string) {
		t.Helper()
		if _, err := theirs.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}
	w := newWords(pipe)
	say("of the first")
	w.forget()
	say("of the second")
	go w.read()
	theirs.Close()
	w.finish(time.Minute)
	if got := w.String(); got != "of the second" {
		t.Errorf("%q, want %q", got, "of the second")
	}
}

// Whoever else holds the pipe does not keep the last words from being told.
func TestWordsOfTheHeldPipe(t *testing.T) {
	t.Parallel()
	pipe, theirs, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	defer theirs.Close()
	if _, err := theirs.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	w := newWords(pipe)
	go w.read()
	w.finish(time.Second)
	if got := w.String(); got != "last words" {
		t.Errorf("%q, want %q", got, "last words")
	}
}
