package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
)

// listing is one question to the broker, the columns people see of the answer, and
// the keys that scripts rely on.
type listing struct {
	name, question, short, text string
	columns                     []column
	keys                        [][2]string
}

// column is a heading and the JSON key below it.
type column struct{ heading, key string }

func (o *options) listings() []*cobra.Command {
	var out []*cobra.Command
	for _, l := range allListings {
		cmd := &cobra.Command{
			Use: l.name, Short: l.short,
			Long:    fmt.Sprintf("%s. %s\n\nThe table shows the main columns. -o json is one list, -o jsonl one object a line,\nwith these keys, to which more may be added:\n\n%s", l.short, l.text, l.describeKeys()),
			Example: "  mdcli " + l.name + "\n  mdcli -o json " + l.name,
			RunE:    func(cmd *cobra.Command, _ []string) error { return o.list(cmd.Context(), l) },
		}
		if l.name == "peers" {
			o.pauses(cmd)
		}
		out = append(out, cmd)
	}
	return out
}

// describeKeys lists the keys and what they are, for the help.
func (l listing) describeKeys() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 4, 2, ' ', 0)
	for _, k := range l.keys {
		fmt.Fprintf(w, "  %s\t%s\n", k[0], k[1])
	}
	w.Flush() // to memory
	return strings.TrimRight(text.String(), "\n")
}

func (o *options) list(ctx context.Context, l listing) error {
	c, err := o.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	reply, err := c.Call(ctx, l.question)
	if err != nil {
		return o.explain(l.name, err)
	}
	rows, err := decode(reply)
	if err != nil {
		return notListing(l.question)
	}
	return o.print(rows, l.columns)
}

// decode reads a listing; numbers stay as they were written.
func decode(reply [][]byte) (rows []map[string]any, err error) {
	if len(reply) != 1 {
		return nil, errors.New("not one frame")
	}
	d := json.NewDecoder(bytes.NewReader(reply[0]))
	d.UseNumber()
	err = d.Decode(&rows)
	return rows, err
}

func notListing(question string) error {
	return cli.Exitf(cli.Protocol, "the broker's answer to %s is no listing: is it a newer or older mdbroker?", question)
}

// print writes rows as the chosen form: a table for people, else all keys.
func (o *options) print(rows []map[string]any, columns []column) error {
	switch o.output {
	case whole:
		return o.encode(rows)
	case lines:
		for _, row := range rows {
			if err := o.encode(row); err != nil {
				return err
			}
		}
		return nil
	}
	w := tabwriter.NewWriter(o.out, 0, 4, 2, ' ', 0)
	for i, c := range columns {
		fmt.Fprint(w, c.heading, tab(i, len(columns)))
	}
	for _, row := range rows {
		for i, c := range columns {
			fmt.Fprint(w, cell(row[c.key]), tab(i, len(columns)))
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

func tab(i, n int) string {
	if i == n-1 {
		return "\n"
	}
	return "\t"
}

// cell shows one value; names may hold any octets.
func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case json.Number:
		return v.String()
	case []any:
		if len(v) == 0 {
			return "-"
		}
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = cell(e)
		}
		return strings.Join(parts, ",")
	case string:
		if quoted := strconv.QuoteToGraphic(v); quoted != `"`+v+`"` {
			return quoted
		}
		if v == "" {
			return "-"
		}
		return v
	}
	return fmt.Sprint(v)
}
