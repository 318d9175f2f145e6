// Table writes the tables of measurements in README.md and docs/BENCHMARKS.md from the last
// results: between a comment that names the results' file, with ", all" where the table
// is to have every figure, and one that says "end". Run it from the repository's root, by
// make bench-table.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/mdmesh/mdmesh/bench/report"
)

// documents are where tables are.
var documents = []string{"README.md", "docs/BENCHMARKS.md"}

// section is a table in a document.
var section = regexp.MustCompile(`(?s)(<!-- (bench/results/[a-z]+\.json)(, all)? -->\n).*?(<!-- end -->\n)`)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "bench-table:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	for _, name := range documents {
		path := filepath.Join(root, name)
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fresh, err := fill(root, text)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(path, fresh, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// fill returns text with its sections as the results below root have them. A section
// without results is left as it is.
func fill(root string, text []byte) ([]byte, error) {
	var failed error
	fresh := section.ReplaceAllFunc(text, func(found []byte) []byte {
		m := section.FindSubmatch(found)
		table, err := markdown(root, string(m[2]), len(m[3]) > 0)
		if errors.Is(err, fs.ErrNotExist) {
			return found
		}
		failed = errors.Join(failed, err)
		return fmt.Appendf(nil, "%s%s%s", m[1], table, m[4])
	})
	return fresh, failed
}

func markdown(root, file string, all bool) (string, error) {
	var results interface{ Markdown() string }
	switch file {
	case "bench/results/peers.json":
		results = &report.Peers{}
	case "bench/results/balance.json":
		results = &report.Balance{}
	case "bench/results/faults.json":
		results = &report.Faults{}
	default:
		return "", fmt.Errorf("a table is to be of %s, which no benchmark writes", file)
	}
	if err := report.Read(filepath.Join(root, file), results); err != nil {
		return "", err
	}
	if faults, ok := results.(*report.Faults); ok && all {
		return faults.MarkdownOfAll(), nil
	}
	return results.Markdown(), nil
}
