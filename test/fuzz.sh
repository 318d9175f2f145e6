#!/bin/sh
# Runs every fuzz target of the repository, one after the other, FUZZTIME each
# (default 20s). Go keeps what it found interesting in its build cache, so later
# runs start from there; an input that fails is written to testdata/fuzz of its
# package: commit it with the repair.
#
#   FUZZTIME=5m test/fuzz.sh            all targets
#   test/fuzz.sh ./mdp ./zsock          those of some packages
#
# Exit code: 1 if any target failed; the others are run all the same.
set -u
cd "$(dirname "$0")/.."
GO=${GO:-go}
FUZZTIME=${FUZZTIME:-20s}
[ $# -gt 0 ] || set -- ./...

targets=0
failed=
for package in $("$GO" list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$@"); do
	folder=$("$GO" list -f '{{.Dir}}' "$package")
	for target in $(cat "$folder"/*_test.go | sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*\*testing\.F).*/\1/p'); do
		targets=$((targets + 1))
		echo "== $package $target ($FUZZTIME)"
		"$GO" test -run '^$' -fuzz "^$target\$" -fuzztime "$FUZZTIME" "$package" ||
			failed="$failed $package:$target"
	done
done

if [ "$targets" -eq 0 ]; then
	echo "no fuzz target found in: $*" >&2
	exit 1
fi
if [ -n "$failed" ]; then
	echo "failed:$failed" >&2
	exit 1
fi
echo "$targets fuzz targets, no failure"
