package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bytes is a size in bytes, written as a whole number with an optional unit: k
// M G T (1000), Ki Mi Gi Ti (1024), each with or without "B", in any case:
// "64MiB", "10k", "4096". It is a pflag.Value and can stand in a TOML struct.
type Bytes int64

// units by suffix in lower case, and as String shows them.
var units = []struct {
	name, show string
	size       int64
}{
	{"ti", "TiB", 1 << 40}, {"gi", "GiB", 1 << 30}, {"mi", "MiB", 1 << 20}, {"ki", "KiB", 1 << 10},
	{"t", "T", 1e12}, {"g", "G", 1e9}, {"m", "M", 1e6}, {"k", "k", 1e3},
}

// ParseBytes reads a size. It refuses negative sizes, fractions and what does
// not fit 63 bits.
func ParseBytes(s string) (Bytes, error) {
	number := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(s)), "b")
	size := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(number, u.name); ok {
			number, size = strings.TrimSpace(rest), u.size
			break
		}
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 63)
	if err != nil || int64(n) > math.MaxInt64/size {
		return 0, fmt.Errorf("%q is no size; write a whole number with a unit, such as 64MiB, 10k or 4096", s)
	}
	return Bytes(int64(n) * size), nil
}

// Set implements pflag.Value.
func (b *Bytes) Set(s string) error {
	n, err := ParseBytes(s)
	if err == nil {
		*b = n
	}
	return err
}

// Type implements pflag.Value.
func (*Bytes) Type() string { return "size" }

// String writes the size exactly, in the shortest way that ParseBytes reads:
// 64MiB, 10k, 1234567.
func (b Bytes) String() string {
	best := strconv.FormatInt(int64(b), 10)
	for _, u := range units {
		if n := int64(b); n >= u.size && n%u.size == 0 {
			if s := strconv.FormatInt(n/u.size, 10) + u.show; len(s) <= len(best) {
				best = s
			}
		}
	}
	return best
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bytes) UnmarshalText(text []byte) error { return b.Set(string(text)) }

// MarshalText implements encoding.TextMarshaler.
func (b Bytes) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// Duration is a time.Duration that a TOML file writes as "10s" or "1m30s". It is
// a struct so that a bare number is refused, which would otherwise be taken for
// nanoseconds. Flags use time.Duration itself.
type Duration struct{ time.Duration }

// UnmarshalText implements encoding.TextUnmarshaler; it refuses negative times.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration; write a number with a unit, such as 500ms, 10s or 1m30s", text)
	}
	d.Duration = v
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// Endpoints is a flag that names ZeroMQ endpoints: repeated, or a comma list, or
// both. List holds the default until the first Set, which replaces it; later
// ones append. "" empties it: the endpoint is switched off. It is a pflag.Value:
//
//	brokers := config.Endpoints{List: []string{"tcp://127.0.0.1:5555"}}
//	cmd.Flags().Var(&brokers, "broker", "broker `endpoint`; a comma list, or repeat")
type Endpoints struct {
	List []string
	set  bool
}

// ParseEndpoints splits a comma list. A part without "://" belongs to the
// endpoint before it as an option ("tcp://a:1,key=K"). It checks the form only:
// what a transport accepts is the transport's to say.
func ParseEndpoints(s string) ([]string, error) {
	if strings.TrimSpace(s) == "" {
		return nil, nil
	}
	var list []string
	for part := range strings.SplitSeq(s, ",") {
		part = strings.TrimSpace(part)
		scheme, rest, found := strings.Cut(part, "://")
		switch {
		case found && scheme != "" && rest != "" && !strings.ContainsAny(part, " \t"):
			list = append(list, part)
		case !found && part != "" && len(list) > 0:
			list[len(list)-1] += "," + part
		default:
			return nil, fmt.Errorf("%q is no endpoint; write tcp://HOST:PORT or ipc:///PATH, several with commas between", part)
		}
	}
	return list, nil
}

// Set implements pflag.Value.
func (e *Endpoints) Set(s string) error {
	list, err := ParseEndpoints(s)
	if err != nil {
		return err
	}
	if e.set {
		list = append(e.List, list...)
	}
	e.List, e.set = list, true
	return nil
}

// Type implements pflag.Value.
func (*Endpoints) Type() string { return "endpoints" }

func (e *Endpoints) String() string { return strings.Join(e.List, ",") }

// Append, Replace and GetSlice implement pflag.SliceValue, which also tells
// Apply that a file may give a list.

// Append adds the endpoints of one comma list.
func (e *Endpoints) Append(s string) error { return e.Set(s) }

// Replace makes list the whole value.
func (e *Endpoints) Replace(list []string) error {
	e.List, e.set = append([]string(nil), list...), true
	return nil
}

// GetSlice returns the value; the caller must not change it.
func (e *Endpoints) GetSlice() []string { return e.List }
