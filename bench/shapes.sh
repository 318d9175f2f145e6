#!/bin/sh
# Measures calls through one broker in three shapes, with 64-octet bodies, client,
# broker and worker each a process of its own on this machine:
#
#   i    1 connection x   1 in flight, 1 worker session that runs 1 at once
#   ii   1 connection x 128 in flight, 1 worker session that runs 128 at once
#   iii 64 connections x  4 in flight, 8 worker sessions in one process, 32 each
#
# It prints rate, latency, and the CPU time each process spends per call (user and
# system, from /proc). It asserts nothing: figures drift by 30 % from hour to hour,
# so compare only rows of one run.
#
#   BIN=DIR        binaries (default ./bin, made by make build)
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

for name in mdbroker mdworker mdcli; do
	test -x "$BIN/$name" || { echo "$BIN/$name is missing: run make build first" >&2; exit 1; }
done
if [ -n "$SYSCALLS" ] && ! command -v strace >/dev/null; then
	echo "SYSCALLS is set, but strace is missing (apt-get install strace)" >&2
	exit 1
fi

dir=$(mktemp -d)
broker= worker=
finish() {
	[ -z "$worker" ] || kill "$worker" 2>/dev/null || true
	[ -z "$broker" ] || kill "$broker" 2>/dev/null || true
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

start_worker() { # sessions, concurrency
	"$BIN/mdworker" --broker "$endpoint" echo --instances "$1" --concurrency "$2" 2>"$dir/worker" &
	worker=$!
	for _ in $(seq 100); do
		[ "$("$BIN/mdcli" --broker "$endpoint" -o jsonl workers | wc -l)" -eq "$1" ] && return
		sleep 0.1
	done
	echo "the worker is not ready; its log says:" >&2
	cat "$dir/worker" >&2
	exit 1
}

bench() { # connections, in flight, duration
	"$BIN/mdcli" --broker "$endpoint" -o json bench echo --connections "$1" --inflight "$2" --size 64 --duration "$3" >"$dir/result"
}

measure() { # shape, connections, in flight
	broker_ticks=$(ticks "$broker") worker_ticks=$(ticks "$worker") client_ticks=$(ended_ticks)
	bench "$2" "$3" "$DURATION"
	client_ticks=$(($(ended_ticks) - client_ticks))
	broker_ticks=$(($(ticks "$broker") - broker_ticks)) worker_ticks=$(($(ticks "$worker") - worker_ticks))
	awk -v shape="$1" -v load="$2 x $3" -v calls="$(field calls)" -v rate="$(field rate)" \
		-v p50="$(field p50_us)" -v p99="$(field p99_us)" -v us="$tick_us" \
		-v c="$client_ticks" -v b="$broker_ticks" -v w="$worker_ticks" 'BEGIN {
			printf "%-5s %9s %10.0f %8d %8d %9.2f %8.2f %8.2f %8.2f\n",
				shape, load, rate, p50, p99, c * us / calls, b * us / calls, w * us / calls, (c + b + w) * us / calls }'
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

shape() { # name, connections, in flight, sessions, concurrency
	start_worker "$4" "$5"
	for _ in $(seq "$ROUNDS"); do
		measure "$1" "$2" "$3"
	done
	[ -z "$SYSCALLS" ] || count_syscalls "$1" "$2" "$3"
	kill "$worker"
	wait "$worker" || true
	worker=
}

"$BIN/mdbroker" --listen tcp://127.0.0.1:0 --publish "" --subscribe "" --http "" 2>"$dir/broker" &
broker=$!
await "$dir/broker" 'listening role=requests'
endpoint=$(sed -n 's/^listening role=requests endpoint=//p' "$dir/broker")

printf '%-5s %9s %10s %8s %8s    %s\n' "" "" "" "" "" 'CPU us per call'
printf '%-5s %9s %10s %8s %8s %9s %8s %8s %8s\n' shape load calls/s "p50 us" "p99 us" client broker worker total
shape i 1 1 1 1
shape ii 1 128 1 128
shape iii 64 4 8 32
