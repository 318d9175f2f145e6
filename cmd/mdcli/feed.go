package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/logging"
	"github.com/mdmesh/mdmesh/services/feed"
)

func (o *options) feed() *cobra.Command {
	var cfg feed.Config
	speed := "max"
	cmd := &cobra.Command{
		Use:   "feed FILE.csv",
		Short: "Replay a CSV file into ingest over TCP",
		Long: `feed sends each row of FILE.csv (plain or gzip) as one record to ingest. Columns
are guessed from the header where they are not named. Rows have stable ids, so a
file may be fed again without counting twice.`,
		Example: `  mdcli feed temperature.csv
  mdcli feed quakes.csv.gz --time DateTime --value Magnitude --series quakes --speed 3600`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Path = args[0]
			if speed != "max" {
				n, err := strconv.ParseFloat(speed, 64)
				if err != nil || !(n > 0) {
					return cli.Exitf(cli.Usage, "--speed %q: give max, or how many times faster than real time", speed)
				}
				cfg.Speed = n
			}
			return o.runFeed(cmd.Context(), cfg)
		},
	}
	f := cmd.Flags()
	f.StringVar(&cfg.To, "to", "127.0.0.1:5570", "`address` of ingest")
	f.StringVar(&cfg.Time, "time", "", "`column` of the time (default: the one that looks like it)")
	f.StringVar(&cfg.Series, "series", "", "`column` of the series' name, or the name itself (default: the file's name)")
	f.StringVar(&cfg.Value, "value", "", "`column` of the value (default: value, or the first numeric one)")
	f.StringVar(&speed, "speed", "max", "times real time, or max")
	return cmd
}

func (o *options) runFeed(ctx context.Context, cfg feed.Config) error {
	cfg.Logger = logging.New("mdcli")
	cfg.Progress = func(p feed.Progress) {
		fmt.Fprintf(os.Stderr, "%d rows read, %d ok, %d rejected, %d skipped\n", p.Rows, p.OK, p.Rejected, p.Skipped)
	}
	r, err := feed.Run(ctx, cfg)
	if o.output == "table" {
		fmt.Printf("%d rows in %.1f s: %d ok, %d rejected, %d skipped\n", r.Rows, r.Seconds, r.OK, r.Rejected, r.Skipped)
		for _, p := range r.Problems {
			fmt.Fprintf(os.Stderr, "line %d: %s\n", p.Line, p.Text)
		}
	} else if encodeErr := json.NewEncoder(os.Stdout).Encode(r); encodeErr != nil {
		return fmt.Errorf("write the result: %w", encodeErr)
	}
	if err != nil {
		return err
	}
	if r.Rejected+r.Skipped > 0 {
		return cli.Exitf(cli.Failed, "%d rows were not taken", r.Rejected+r.Skipped)
	}
	return nil
}
