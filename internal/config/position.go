package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// keyError says which key of a file an error is about.
type keyError struct {
	path []string
	err  error
}

func (e *keyError) Error() string { return e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// At returns err with the place it is about: keys (string) and, in arrays of
// tables, indexes (int, from 0): At(err, "child", 2, "restart"). File turns it
// into file:line:col. Where that key was not written, the nearest table above it
// is shown.
func At(err error, path ...any) error {
	words := make([]string, len(path))
	for i, p := range path {
		words[i] = fmt.Sprint(p)
	}
	return &keyError{path: words, err: err}
}

// locate gives the first At error in err its position in text.
func locate(path string, text []byte, err error) error {
	key, ok := errors.AsType[*keyError](err)
	if !ok {
		return &Error{File: path, Reason: err.Error(), err: err}
	}
	for want := key.path; len(want) > 0; want = want[:len(want)-1] {
		for _, e := range entries(text) {
			if slices.Equal(e.path, want) {
				return at(path, text, e.line, e.column, key.Error(), key.err)
			}
		}
	}
	return &Error{File: path, Reason: key.Error(), err: key.err}
}

// seek gives an error of the decoder its position where that has none: for numbers
// that an UnmarshalText refuses. They are named in its text, and the one is meant
// with which the text up to its line has the same error. It returns nil if none is.
func seek(path string, text []byte, dst any, refused error) error {
	if _, placed := errors.AsType[*toml.DecodeError](refused); placed {
		return nil
	}
	named := func(s scalar) bool { return strings.Contains(refused.Error(), strconv.Quote(s.text)) }
	lines := bytes.SplitAfter(text, []byte("\n"))
	for _, e := range entries(text) {
		if e.value == nil || !slices.ContainsFunc(e.value.scalars, named) {
			continue
		}
		above := bytes.Join(lines[:min(e.line, len(lines))], nil)
		err := toml.Unmarshal(above, reflect.New(reflect.TypeOf(dst).Elem()).Interface())
		if err != nil && err.Error() == refused.Error() {
			return at(path, text, e.line, e.column, strings.TrimPrefix(err.Error(), "toml: "), err)
		}
	}
	return nil
}

// entry is one key or table header of a TOML text and where it stands. For a key
// the position is that of its value, where the caret helps most.
type entry struct {
	path         []string // "child", "2", "name"
	line, column int
	value        *value // nil for a table header
}

// value is what a key was given, in the order written; list tells ["a"] from "a".
type value struct {
	scalars []scalar
	list    bool
	nested  bool // holds tables or lists of lists: nothing a flag can take
}

// scalar is one string, number, boolean or time, as text: quotes and escapes undone.
type scalar struct {
	text         string
	line, column int
}

// entries lists keys and table headers of text in order. It expects text that
// the decoder has accepted, and returns what it saw before the first fault
// otherwise.
func entries(text []byte) []entry {
	var (
		parser unstable.Parser
		all    []entry
		table  []string
		seen   = map[string]int{} // array tables met, by path
	)
	parser.Reset(text)
	for parser.NextExpression() {
		node := parser.Expression()
		keys, at := keyOf(&parser, node)
		switch node.Kind {
		case unstable.Table:
			table = indexed(keys, seen)
			all = append(all, entry{path: table, line: at.Line, column: at.Column})
		case unstable.ArrayTable:
			parent := indexed(keys[:len(keys)-1], seen)
			table = append(slices.Clone(parent), keys[len(keys)-1])
			name := strings.Join(table, "\x00")
			seen[name]++
			table = append(table, fmt.Sprint(seen[name]-1))
			all = append(all, entry{path: table, line: at.Line, column: at.Column})
		case unstable.KeyValue:
			v := node.Value()
			if v.Raw.Length > 0 {
				at = parser.Shape(v.Raw).Start
			}
			all = append(all, entry{
				path: append(slices.Clone(table), keys...), line: at.Line, column: at.Column, value: valueOf(&parser, v)})
		}
	}
	return all
}

// keyOf returns the dotted key of node and where it starts.
func keyOf(parser *unstable.Parser, node *unstable.Node) (keys []string, at unstable.Position) {
	for it := node.Key(); it.Next(); {
		if len(keys) == 0 {
			at = parser.Shape(it.Node().Raw).Start
		}
		keys = append(keys, string(it.Node().Data))
	}
	return keys, at
}

// indexed inserts into path the index of the newest element of each array table
// it passes through: [child.environment] belongs to the last [[child]].
func indexed(path []string, seen map[string]int) []string {
	var out []string
	for _, key := range path {
		out = append(out, key)
		if n := seen[strings.Join(out, "\x00")]; n > 0 {
			out = append(out, fmt.Sprint(n-1))
		}
	}
	return out
}

func valueOf(parser *unstable.Parser, node *unstable.Node) *value {
	v := &value{}
	add := func(n *unstable.Node) {
		at := parser.Shape(n.Raw).Start
		v.scalars = append(v.scalars, scalar{text: string(n.Data), line: at.Line, column: at.Column})
	}
	switch node.Kind {
	case unstable.Array:
		v.list = true
		for it := node.Children(); it.Next(); {
			item := it.Node()
			if item.Kind == unstable.Array || item.Kind == unstable.InlineTable {
				v.nested = true
				continue
			}
			add(item)
		}
	case unstable.InlineTable:
		v.nested = true
	default:
		add(node)
	}
	return v
}
