// Package readme checks that what the README shows is what the repository holds.
package readme

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var update = flag.Bool("update", false, "write the examples into the README")

// block is a fenced block below a comment that names the file it shows.
var block = regexp.MustCompile("(?s)<!-- (examples/[^ ]+) -->\n```([a-z]+)\n(.*?)```")

const root = "../.."

func TestExamplesAreThoseInTheRepository(t *testing.T) {
	path := filepath.Join(root, "README.md")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	fresh := block.ReplaceAllFunc(text, func(found []byte) []byte {
		seen++
		m := block.FindSubmatch(found)
		want, err := os.ReadFile(filepath.Join(root, string(m[1])))
		if err != nil {
			t.Error(err)
			return found
		}
		if string(m[3]) != string(want) && !*update {
			t.Errorf("README shows another %s than the repository holds; run go test ./test/readme -update", m[1])
		}
		return fmt.Appendf(nil, "<!-- %s -->\n```%s\n%s```", m[1], m[2], want)
	})
	if seen != 6 {
		t.Errorf("README shows %d examples, want a worker and a client in three languages", seen)
	}
	if *update {
		if err := os.WriteFile(path, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
