package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/services/feed"
	"github.com/mdmesh/mdmesh/services/ingest/lineclient"
	"github.com/mdmesh/mdmesh/services/ingest/record"
)

func (o *options) feed() *cobra.Command {
	var cfg feed.Config
	var speed string
	cmd := &cobra.Command{
		Use:   "feed FILE.csv",
		Short: "Replay a CSV file into ingest over TCP",
		Long: `feed sends each row of FILE.csv (plain or gzip; - is standard input) as one record
to ingest, and prints what became of the rows. Columns are guessed from the header
where they are not named, and said. Rows have stable ids, so a file may be fed again without
counting twice.

Exit codes: 0 all rows are durable; 1 some were not taken; 64 the file cannot be
read, or its columns not told; 69 no answer from ingest for --timeout; 76
something else than ingest answers there.`,
		Example: `  mdcli feed temperature.csv
  mdcli feed quakes.csv.gz --time DateTime --value Magnitude --series quakes --speed 3600
  mdcli -o json feed --to 127.0.0.1:5570 - <today.csv`,
		Args: arguments(1, 1, "name one file: mdcli feed FILE.csv"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := feed.ParseSpeed(speed)
			if err != nil {
				return cli.Exitf(cli.Usage, "--%w", err)
			}
			cfg.Path, cfg.Speed = args[0], n
			if cfg.GiveUp <= 0 {
				return cli.Exitf(cli.Usage, "--timeout %v: give more than 0, such as 500ms or 1m", cfg.GiveUp)
			}
			return o.runFeed(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.To, "to", "127.0.0.1:5570", "`address` of ingest")
	f.StringVar(&cfg.Time, "time", "", "`column` of the time (default: the one that looks like it)")
	f.StringVar(&cfg.Series, "series", "", "`column` of the series' name, or the name itself (default: the one called series, else all rows are of the file's name)")
	f.StringVar(&cfg.Value, "value", "", "`column` of the value (default: value, or the first numeric one)")
	f.DurationVar(&cfg.GiveUp, "timeout", 30*time.Second, "how long ingest may be without an answer")
	f.StringVar(&speed, "speed", "max", "`times` real time, or max")
	return cmd
}

func (o *options) runFeed(ctx context.Context, cfg feed.Config) error {
	begun := false
	if cfg.Path == "-" {
		cfg.Input = o.in
	}
	cfg.Logger = logging.New("mdcli")
	cfg.Columns = func(c feed.Columns) {
		begun = true
		fmt.Fprintln(o.talk, describeColumns(c))
	}
	cfg.Progress = func(p feed.Progress) {
		fmt.Fprintf(o.talk, "%d rows read, %d ok, %d rejected, %d skipped\n", p.Rows, p.OK, p.Rejected, p.Skipped)
	}
	r, err := feed.Run(ctx, cfg)
	if !begun && err != nil {
		return cli.Exit(cli.Usage, err) // nothing was sent: the file, or its columns
	}
	if printErr := o.printFeed(r); printErr != nil {
		return printErr
	}
	switch {
	case errors.Is(err, record.ErrBadAnswer):
		return cli.Exitf(cli.Protocol, "%w; is that another port than mdservice ingest has? --to names it", err)
	case errors.Is(err, lineclient.ErrNoProgress):
		return cli.Exitf(cli.Unavailable, "%w; is mdservice ingest running there? --to names another", err)
	case err != nil:
		return err
	case r.Rejected+r.Skipped > 0:
		return cli.Exitf(cli.Failed, "%d rows were not taken", r.Rejected+r.Skipped)
	}
	return nil
}

func describeColumns(c feed.Columns) string {
	series := fmt.Sprintf("all rows are of series %q", c.Name)
	if c.Series != "" {
		series = fmt.Sprintf("series from column %q", c.Series)
	}
	return fmt.Sprintf("time from column %q, value from column %q, %s", c.Time, c.Value, series)
}

func (o *options) printFeed(r feed.Result) error {
	if o.output != table {
		return o.encode(r)
	}
	for _, p := range r.Problems {
		fmt.Fprintf(o.talk, "line %d: %s\n", p.Line, p.Text)
	}
	_, err := fmt.Fprintf(o.out, "%d rows in %.1f s: %d ok, %d rejected, %d skipped\n", r.Rows, r.Seconds, r.OK, r.Rejected, r.Skipped)
	if err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
