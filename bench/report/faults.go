package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
)

// Faults is what bench/faults measured.
type Faults struct {
	Machine    Machine     `json:"machine"`
	Rounds     int         `json:"rounds"`
	Injections []Injection `json:"injections"`
}

// Injection is one figure of a fault that was provoked again and again, such as the
// time until it is overcome. A fault with several figures has one of these for each.
type Injection struct {
	Fault    string   `json:"fault"`
	Measured string   `json:"measured"`          // such as what is waited for, from the fault on
	Unit     string   `json:"unit,omitempty"`    // of the figures, such as KB; none: ms
	Rounds   int      `json:"rounds,omitempty"`  // that were made; 0: as many as of the others
	Promise  string   `json:"promise,omitempty"` // the figure, or words
	P50      float64  `json:"p50"`
	P99      float64  `json:"p99"`              // of few rounds: the largest
	Failed   []string `json:"failed,omitempty"` // why rounds did not come to their end
	Brief    bool     `json:"brief,omitempty"`  // among the few that the README names
}

// UnmarshalJSON also reads results of the time when all figures were ms.
func (i *Injection) UnmarshalJSON(text []byte) error {
	type plain Injection // without this method
	both := struct {
		*plain
		Promise float64 `json:"promise_ms"`
		P50     float64 `json:"p50_ms"`
		P99     float64 `json:"p99_ms"`
	}{plain: (*plain)(i)}
	if err := json.Unmarshal(text, &both); err != nil {
		return err
	}
	i.P50, i.P99 = cmp.Or(i.P50, both.P50), cmp.Or(i.P99, both.P99)
	if both.Promise != 0 {
		i.Promise = fmt.Sprintf("%.0f", both.Promise)
	}
	return nil
}

// Print writes everything for a terminal.
func (f *Faults) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s; %d rounds of each but where another number is named; times in ms\n\n", f.Machine, f.Rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tmeasured\tp50\tp99\tpromise\tunit\trounds\tfailed")
	for _, i := range f.Injections {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", i.Fault, i.Measured, i.figure(i.P50, f.Rounds), i.figure(i.P99, f.Rounds), i.Promise,
			cmp.Or(i.Unit, "ms"), i.rounds(f.Rounds), len(i.Failed))
	}
	return w.Flush()
}

// Markdown is a table for the README: of the figures that are to be brief, if any are, and
// of those with a failure, which nobody is to overlook.
func (f *Faults) Markdown() string {
	brief := Faults{Machine: f.Machine, Rounds: f.Rounds}
	for _, i := range f.Injections {
		if i.Brief || len(i.Failed) > 0 {
			brief.Injections = append(brief.Injections, i)
		}
	}
	if !slices.ContainsFunc(f.Injections, func(i Injection) bool { return i.Brief }) {
		return f.MarkdownOfAll()
	}
	return brief.MarkdownOfAll()
}

// MarkdownOfAll is a table of all figures. Units, numbers of rounds and failures are named
// where they are not what the reader expects.
func (f *Faults) MarkdownOfAll() string {
	var out strings.Builder
	fmt.Fprintf(&out, "Each fault is provoked %d times among real processes; ms until it is overcome%s. %s.\n\n", f.Rounds, f.exceptions(), f.Machine)
	out.WriteString("| fault | until | p50 | p99 | promise |\n|-|-|-|-|-|\n")
	for _, i := range f.Injections {
		unit := ""
		if i.Unit != "" {
			unit = " " + i.Unit
		}
		promise := i.Promise
		if promise != "" {
			promise += unit
		}
		fmt.Fprintf(&out, "| %s%s | %s | %s | %s | %s |\n", i.Fault, i.remarks(f.Rounds), i.Measured,
			i.figure(i.P50, f.Rounds)+unit, i.figure(i.P99, f.Rounds)+unit, promise)
	}
	return out.String()
}

// exceptions ends the sentence about what the figures are.
func (f *Faults) exceptions() (text string) {
	if slices.ContainsFunc(f.Injections, func(i Injection) bool { return i.Unit != "" }) {
		text = ", or what is named, in its unit"
	}
	if slices.ContainsFunc(f.Injections, func(i Injection) bool { return i.rounds(f.Rounds) != f.Rounds }) {
		text += "; p99 of few rounds is the worst"
	}
	return text
}

// remarks are what a reader of the row must know beside its figures.
func (i *Injection) remarks(usual int) string {
	rounds, failed := i.rounds(usual), len(i.Failed)
	switch {
	case failed > 0:
		return fmt.Sprintf(" (**%d of %d rounds failed**)", failed, rounds)
	case rounds != usual:
		return fmt.Sprintf(" (%d rounds)", rounds)
	default:
		return ""
	}
}

func (i *Injection) rounds(usual int) int { return cmp.Or(i.Rounds, usual) }

// figure writes one, whole if it is a count, or that there is none because every round
// failed.
func (i *Injection) figure(v float64, usual int) string {
	switch {
	case len(i.Failed) >= i.rounds(usual):
		return "-"
	case v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	default:
		return three(v)
	}
}
