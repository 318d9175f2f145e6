package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Faults is what bench/faults measured.
type Faults struct {
	Machine    Machine     `json:"machine"`
	Rounds     int         `json:"rounds"`
	Injections []Injection `json:"injections"`
}

// Injection is one fault, provoked again and again, and the time until it is overcome.
// Times are in ms.
type Injection struct {
	Fault    string   `json:"fault"`
	Measured string   `json:"measured"` // from the fault until what
	Promise  float64  `json:"promise_ms,omitempty"`
	P50      float64  `json:"p50_ms"`
	P99      float64  `json:"p99_ms"`
	Failed   []string `json:"failed,omitempty"` // why rounds did not come to their end
}

// Print writes everything for a terminal.
func (f *Faults) Print(out io.Writer) error {
	fmt.Fprintf(out, "\n%s; %d rounds of each; times in ms\n\n", f.Machine, f.Rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "fault\tmeasured\tp50\tp99\tpromise\tfailed")
	for _, i := range f.Injections {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\n", i.Fault, i.Measured, three(i.P50), three(i.P99), promised(i.Promise), len(i.Failed))
	}
	return w.Flush()
}

// Markdown is a table for the README.
func (f *Faults) Markdown() string {
	var out strings.Builder
	fmt.Fprintf(&out, "Each fault is provoked %d times among real processes; ms until it is overcome. %s.\n\n", f.Rounds, f.Machine)
	out.WriteString("| fault | until | p50 | p99 | promise |\n|-|-|-|-|-|\n")
	for _, i := range f.Injections {
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s |\n", i.Fault, i.Measured, three(i.P50), three(i.P99), promised(i.Promise))
	}
	return out.String()
}

func promised(ms float64) string {
	if ms == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", ms)
}
