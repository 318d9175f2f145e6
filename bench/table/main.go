// Table writes the README's tables of measurements from the last results: between a
// comment that names the results' file and one that says "end". Run it from the
// repository's root, by make bench-table.
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

// section is a table in the README.
var section = regexp.MustCompile(`(?s)(<!-- (bench/results/[a-z]+\.json) -->\n).*?(<!-- end -->\n)`)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "bench-table:", err)
		os.Exit(1)
	}
}

func run(root string) error {
	path := filepath.Join(root, "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fresh, err := fill(root, text)
	if err != nil {
		return err
	}
	return os.WriteFile(path, fresh, 0o644)
}

// fill returns text with its sections as the results below root have them. A section
// without results is left as it is.
func fill(root string, text []byte) ([]byte, error) {
	var failed error
	fresh := section.ReplaceAllFunc(text, func(found []byte) []byte {
		m := section.FindSubmatch(found)
		table, err := markdown(root, string(m[2]))
		if errors.Is(err, fs.ErrNotExist) {
			return found
		}
		failed = errors.Join(failed, err)
		return fmt.Appendf(nil, "%s%s%s", m[1], table, m[3])
	})
	return fresh, failed
}

func markdown(root, file string) (string, error) {
	var results interface{ Markdown() string }
	switch file {
	case "bench/results/peers.json":
		results = &report.Peers{}
	case "bench/results/balance.json":
		results = &report.Balance{}
	case "bench/results/faults.json":
		results = &report.Faults{}
	default:
		return "", fmt.Errorf("README names %s, which no benchmark writes", file)
	}
	if err := report.Read(filepath.Join(root, file), results); err != nil {
		return "", err
	}
	return results.Markdown(), nil
}
