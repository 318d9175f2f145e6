#!/bin/sh
# A program for  mdworker exec --service score --persistent -- sh score.sh
# Each request gets its body back as one frame, in upper case. Frames are kept in
# files, since variables of a shell cannot hold all octets.
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT

number() { # reads 4 octets: a number
    set -- $(dd bs=1 count=4 2>/dev/null | od -An -tu1)
    [ $# = 4 ] || exit 0                           # the worker has ended our input: leave
    echo $((($1 << 24) + ($2 << 16) + ($3 << 8) + $4))
}
octets() { [ "$1" = 0 ] || dd bs=1 count="$1" 2>/dev/null; }
put() { # writes a number as 4 octets
    printf "\\$(printf %o $(($1 >> 24 & 255)))\\$(printf %o $(($1 >> 16 & 255)))\\$(printf %o $(($1 >> 8 & 255)))\\$(printf %o $(($1 & 255)))"
}

while n=$(number) && [ -n "$n" ]; do
    octets "$(number)" >"$dir/head"
    : >"$dir/body"
    while [ $((n -= 1)) -gt 0 ]; do octets "$(number)" >>"$dir/body"; done
    tr a-z A-Z <"$dir/body" >"$dir/reply"
    { printf '\000'; put 1; put "$(wc -c <"$dir/reply")"; cat "$dir/reply"; }
done
