#!/bin/sh
# Measures calls through one broker in three shapes, with 64-octet bodies, client,
# broker and worker each a process of its own on this machine:
#
#   i    1 connection x   1 in flight, 1 worker session that runs 1 at once
#   ii   1 connection x 128 in flight, 1 worker session that runs 128 at once
#   iii 64 connections x  4 in flight, 8 worker sessions in one process, 32 each
#
# It prints rate, latency, the CPU time each process spends per call (user and
# system, from /proc), and how much of the machine was busy with anything else
# meanwhile. It asserts nothing: figures drift by 30 % from hour to hour, and rate and
# latency say little where others are busy, for a thread that has to wait for its turn
# waits for milliseconds. So compare only rows of one run, and medians of many short
# rounds: given the binaries of two versions, it measures them in turn.
#
#   BIN="DIR..."   binaries (default ./bin, made by make build), of one or more versions
#   DURATION=3s    of each measurement
#   ROUNDS=1       measurements of each shape
#   SYSCALLS=1     count system calls per call, too, in runs of their own (needs strace)
set -eu
cd "$(dirname "$0")/.."
BIN=${BIN:-bin}
DURATION=${DURATION:-3s}
ROUNDS=${ROUNDS:-1}
SYSCALLS=${SYSCALLS:-}
tick_us=$((1000000 / $(getconf CLK_TCK)))

processors=$(getconf _NPROCESSORS_ONLN)

for bin in $BIN; do
	for name in mdbroker mdworker mdcli; do
		test -x "$bin/$name" || { echo "$bin/$name is missing: run make build first" >&2; exit 1; }
	done
done
if [ -n "$SYSCALLS" ] && ! command -v strace >/dev/null; then
	echo "SYSCALLS is set, but strace is missing (apt-get install strace)" >&2
	exit 1
fi

dir=$(mktemp -d)
brokers= workers= # process ids
finish() {
	for pid in $workers $brokers; do
		kill "$pid" 2>/dev/null || true
	done
	wait
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

# ticks PID: user and system time of a process, in clock ticks. The name in the
# stat line may hold blanks, so fields are counted from behind it.
ticks() { sed 's/.*) //' "/proc/$1/stat" | awk '{ print $12 + $13 }'; }

# ended_ticks: the same of all ended children of this shell.
ended_ticks() { sed 's/.*) //' "/proc/$$/stat" | awk '{ print $14 + $15 }'; }

# busy_ticks: what all processes and the hypervisor's other guests have used.
busy_ticks() { awk '$1 == "cpu" { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat; }

# now_ticks: the time since boot.
now_ticks() { awk -v us="$tick_us" '{ printf "%d\n", $1 * 1000000 / us }' /proc/uptime; }

# field NAME: one number of the JSON result.
field() { sed -n "s/.*\"$1\":\([0-9.e+]*\).*/\1/p" "$dir/result"; }

# await FILE PATTERN: wait until a line of a log matches.
await() {
	for _ in $(seq 100); do
		grep -q "$2" "$1" && return
		sleep 0.1
	done
	echo "no \"$2\" within 10 s; the log says:" >&2
	cat "$1" >&2
	exit 1
}

# A version is one element of BIN; number is its place there. What runs of it is kept
# in files, $dir/endpoint-NUMBER and so on.

start_broker() {
	"$bin/mdbroker" --listen tcp://127.0.0.1:0 --publish "" --subscribe "" --http "" 2>"$dir/broker-log-$number" &
	brokers="$brokers $!"
	echo $! >"$dir/broker-$number"
	await "$dir/broker-log-$number" 'listening role=requests'
	sed -n 's/^listening role=requests endpoint=//p' "$dir/broker-log-$number" >"$dir/endpoint-$number"
}

start_worker() { # sessions, concurrency
	"$bin/mdworker" --broker "$endpoint" echo --instances "$1" --concurrency "$2" 2>"$dir/worker-log" &
	workers="$workers $!"
	echo $! >"$dir/worker-$number"
	for _ in $(seq 100); do
		[ "$("$bin/mdcli" --broker "$endpoint" -o jsonl workers | wc -l)" -eq "$1" ] && return
		sleep 0.1
	done
	echo "the worker is not ready; its log says:" >&2
	cat "$dir/worker-log" >&2
	exit 1
}

bench() { # connections, in flight, duration
	"$bin/mdcli" --broker "$endpoint" -o json bench echo --connections "$1" --inflight "$2" --size 64 --duration "$3" >"$dir/result"
}

measure() { # shape, connections, in flight
	b=$(ticks "$broker") w=$(ticks "$worker") c=$(ended_ticks) all=$(busy_ticks) time=$(now_ticks)
	bench "$2" "$3" "$DURATION"
	time=$(($(now_ticks) - time)) all=$(($(busy_ticks) - all)) c=$(($(ended_ticks) - c))
	b=$(($(ticks "$broker") - b)) w=$(($(ticks "$worker") - w))
	awk -v shape="$1" -v load="$2 x $3" -v calls="$(field calls)" -v rate="$(field rate)" \
		-v p50="$(field p50_us)" -v p99="$(field p99_us)" -v us="$tick_us" -v bin="$bin" \
		-v c="$c" -v b="$b" -v w="$w" -v others=$((all - b - c - w)) -v time=$((time * processors)) 'BEGIN {
			printf "%-5s %9s %10.0f %8d %8d %9.2f %8.2f %8.2f %8.2f %7.0f%%  %s\n", shape, load, rate, p50, p99,
				c * us / calls, b * us / calls, w * us / calls, (c + b + w) * us / calls,
				100 * (others > 0 ? others : 0) / (time > 0 ? time : 1), bin }'
}

# count_syscalls: attach to broker and worker for one second's load. Tracing slows
# them, so these runs give no times.
count_syscalls() { # shape, connections, in flight
	strace -f -c -qq -o "$dir/broker-calls" -p "$broker" & broker_trace=$!
	strace -f -c -qq -o "$dir/worker-calls" -p "$worker" & worker_trace=$!
	sleep 0.5
	bench "$2" "$3" 1s
	kill -INT "$broker_trace" "$worker_trace"
	wait "$broker_trace" "$worker_trace" || true
	for name in broker worker; do
		awk -v name="$name" -v calls="$(field calls)" '$NF == "total" {
			printf "      system calls per call, %s: %.2f\n", name, $4 / calls }' "$dir/$name-calls"
	done
}

# each COMMAND...: run it for each version, with its processes in variables.
each() {
	number=0
	for bin in $BIN; do
		number=$((number + 1))
		[ ! -e "$dir/endpoint-$number" ] || read -r endpoint <"$dir/endpoint-$number"
		[ ! -e "$dir/broker-$number" ] || read -r broker <"$dir/broker-$number"
		[ ! -e "$dir/worker-$number" ] || read -r worker <"$dir/worker-$number"
		"$@"
	done
}

shape() { # name, connections, in flight, sessions, concurrency
	each start_worker "$4" "$5"
	for _ in $(seq "$ROUNDS"); do
		each measure "$1" "$2" "$3"
	done
	[ -z "$SYSCALLS" ] || each count_syscalls "$1" "$2" "$3"
	for pid in $workers; do
		kill "$pid"
		wait "$pid" || true
	done
	workers=
}

each start_broker

printf '%-5s %9s %10s %8s %8s    %s\n' "" "" "" "" "" 'CPU us per call'
printf '%-5s %9s %10s %8s %8s %9s %8s %8s %8s %8s  %s\n' shape load calls/s "p50 us" "p99 us" client broker worker total others of
shape i 1 1 1 1
shape ii 1 128 1 128
shape iii 64 4 8 32
