#!/bin/sh
# The main job on embedded defaults: two federated brokers, the pipeline on this
# machine's own live metrics, and a supervisor holding it all up.
#
#   MD_BIN        folder of the binaries            (default: bin beside this checkout)
#   MD_PORT_BASE  moves all ports: BASE .. BASE+9   (default: the usual ones)
#   MD_DATA       keeps the data there              (default: a temporary folder, removed at the end)
set -eu

here=$(cd "$(dirname "$0")/../.." && pwd)
bin=${MD_BIN:-$here/bin}
if [ -n "${MD_PORT_BASE:-}" ]; then
	case $MD_PORT_BASE in *[!0-9]*) echo "run: MD_PORT_BASE=$MD_PORT_BASE: give a number such as 20000" >&2; exit 64 ;; esac
	a=$MD_PORT_BASE; a_pub=$((a + 1)); a_sub=$((a + 2)); a_http=$((a + 3))
	b=$((a + 4)); b_pub=$((a + 5)); b_sub=$((a + 6)); b_http=$((a + 7))
	ingest=$((a + 8)); page=$((a + 9))
else
	a=5555 a_pub=5556 a_sub=5557 a_http=5580
	b=5565 b_pub=5566 b_sub=5567 b_http=5581
	ingest=5570 page=8080
fi

# Nothing is started before all ports are known to be free: half a mesh could join
# the one that has them, and take its work to another store.
for port in $a $a_pub $a_sub $a_http $b $b_pub $b_sub $b_http $ingest $page; do
	if [ "$port" -lt 1 ] || [ "$port" -gt 65535 ]; then
		echo "run: MD_PORT_BASE=$MD_PORT_BASE: there is no port $port; give 1 to 65526" >&2
		exit 64
	fi
	# /proc/net/tcp has local addresses in hexadecimal; 0A is a listener
	if grep -qsiE "^ *[0-9]+: [0-9A-F]+:$(printf %04X "$port") [0-9A-F:]+ 0A" /proc/net/tcp /proc/net/tcp6; then
		echo "run: port $port is in use; choose ten others with MD_PORT_BASE=20000 or the like" >&2
		exit 69
	fi
done

run=$(mktemp -d "${TMPDIR:-/tmp}/mdmesh.XXXXXX")
data=${MD_DATA:-$run/data}
mkdir -p "$data"
data=$(cd "$data" && pwd)
supervisor=
# However this ends, nothing is left: children are stopped, the folder is removed.
finish() {
	trap - EXIT
	trap '' INT TERM HUP # impatience reaches the supervisor, and must not end the clearing up
	if [ -n "$supervisor" ]; then
		kill -TERM "$supervisor" 2>/dev/null || true
		wait "$supervisor" 2>/dev/null || clear
	fi
	rm -rf "$run"
}
# A supervisor that did not end well has left its children running: another one
# takes them over, and ends them.
clear() {
	[ -e "$run/supervisor.sock.state" ] || return 0
	supervise
	until "$bin/mdsupervisor" shutdown --socket "$run/supervisor.sock" 2>/dev/null; do
		kill -0 "$supervisor" 2>/dev/null || break
		sleep 0.1
	done
	wait "$supervisor" || true
}
trap 'finish' EXIT
trap 'finish; exit 0' INT TERM HUP

A=tcp://127.0.0.1:$a
B=tcp://127.0.0.1:$b
cat >"$run/mesh.toml" <<END
log_dir = "$run/logs"

[[child]]
name = "broker-a"
command = ["$bin/mdbroker", "--name", "a", "--listen", "$A", "--publish", "tcp://127.0.0.1:$a_pub", "--subscribe", "tcp://127.0.0.1:$a_sub", "--http", "127.0.0.1:$a_http"]
ready = "notify"

[[child]]
name = "broker-b"
command = ["$bin/mdbroker", "--name", "b", "--listen", "$B", "--publish", "tcp://127.0.0.1:$b_pub", "--subscribe", "tcp://127.0.0.1:$b_sub", "--http", "127.0.0.1:$b_http", "--peer", "$A"]
ready = "notify"

# Both brokers see the same store on this machine, so either may be given the work.
[[child]]
name = "transform-a"
command = ["$bin/mdservice", "--broker", "$A", "--data", "$data", "transform", "--scope", "mesh"]
numprocs = 2

[[child]]
name = "transform-b"
command = ["$bin/mdservice", "--broker", "$B", "--data", "$data", "transform", "--scope", "mesh"]
numprocs = 2

[[child]]
name = "rollup"
command = ["$bin/mdservice", "--broker", "$B", "--data", "$data", "rollup"]

[[child]]
name = "ingest"
command = ["$bin/mdservice", "--broker", "$A,$B", "ingest", "--listen", "127.0.0.1:$ingest"]

[[child]]
name = "push"
command = ["$bin/mdservice", "--broker", "$A", "--data", "$data", "push", "--listen", "127.0.0.1:$page"]

[[child]]
name = "hostmetrics"
command = ["$bin/mdservice", "hostmetrics", "--to", "127.0.0.1:$ingest"]
END

supervise() {
	"$bin/mdsupervisor" run --config "$run/mesh.toml" --socket "$run/supervisor.sock" --stop-timeout 4s &
	supervisor=$!
}
supervise

# A supervisor that was killed, or broke, leaves its children running; the next one
# takes them over, here as below systemd.
again() {
	status=0
	wait "$supervisor" || status=$?
	case $status in 0 | 64 | 69 | 77 | 78) supervisor=; return 1 ;; esac
	echo "run: the supervisor ended with $status; starting another" >&2
	sleep 0.2
	supervise
}

# A port that somebody else has will not come free by waiting.
ports_are_ours() {
	if grep -hs -e 'address in use' -e 'address already in use' "$run"/logs/* >&2; then
		echo "run: a port is taken (above); choose ten others with MD_PORT_BASE=20000 or the like" >&2
		exit 69
	fi
}

# The page is up when push says where it listens.
tries=0
until grep -qs 'listening role=page' "$run"/logs/push*; do
	ports_are_ours
	if ! kill -0 "$supervisor" 2>/dev/null && ! again; then
		echo "run: the supervisor ended; its last words are above" >&2
		exit 70
	fi
	tries=$((tries + 1))
	if [ "$tries" -gt 300 ]; then
		echo "run: the page did not come up within 30 s; the logs say:" >&2
		tail -n 3 "$run"/logs/* >&2
		exit 70
	fi
	sleep 0.1
done
ports_are_ours
echo "page http://127.0.0.1:$page/"
echo "logs $run/logs"
echo "look around: $bin/mdcli --broker $A services; $bin/mdsupervisor status --socket $run/supervisor.sock"
echo "end with Ctrl-C"

while again; do :; done
exit "$status"
