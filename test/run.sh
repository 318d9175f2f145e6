#!/bin/sh
# Everything `make test` does: name the Debian packages the tests need, install
# what is missing when root, then run the whole suite with the race detector.
# Tests start private instances on random loopback ports and stop them.
#
#   NO_INSTALL=1  only name what is missing, and stop
set -eu
cd "$(dirname "$0")/.."

# program or file that must be there : Debian package that brings it
needs="
cc:gcc
/usr/include/stdlib.h:libc6-dev
/usr/bin/python3:python3
python:zmq:python3-zmq
/usr/bin/php:php-cli
php:zmq:php-zmq
chromium:chromium
systemd-analyze:systemd
groff:groff-base
/usr/share/bash-completion/bash_completion:bash-completion
zsh:zsh
ip:iproute2
iptables:iptables
fish:fish
"

present() {
	case $1 in
	python:*) /usr/bin/python3 -c "import ${1#python:}" 2>/dev/null ;;
	php:*) /usr/bin/php -m 2>/dev/null | grep -qx "${1#php:}" ;;
	/*) test -e "$1" ;;
	*) command -v "$1" >/dev/null 2>&1 ;;
	esac
}

missing=
for need in $needs; do
	present "${need%:*}" || missing="$missing ${need##*:}"
done

if [ -n "$missing" ]; then
	echo "tests need these Debian packages:$missing"
	if [ -n "${NO_INSTALL:-}" ]; then
		echo "NO_INSTALL is set: install them, or unset it as root"
		exit 1
	elif [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
		echo "not root, or no apt-get: tests that need them will say that they were skipped"
	else
		# Packages must not start system services: tests use private instances only.
		guard=
		if [ ! -e /usr/sbin/policy-rc.d ]; then
			guard=/usr/sbin/policy-rc.d
			printf '#!/bin/sh\nexit 101\n' >"$guard"
			chmod +x "$guard"
			trap 'rm -f "$guard"' EXIT
		fi
		export DEBIAN_FRONTEND=noninteractive
		apt-get update -qq
		# shellcheck disable=SC2086 # a list of names
		apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
			{ dpkg --configure -a; apt-get install -y -f -qq --no-install-recommends $missing; }
		[ -z "$guard" ] || rm -f "$guard"
	fi
fi

# Costs cannot be counted under the race detector.
go test -count=1 -run 'Alloc|Cost|Small' ./mdp ./zsock ./client
# Thousands of histories of one broker, from a seed that changes with every run and is
# printed; under the race detector, below, a few hundred.
BROKER_SEEDS=10000 go test -count=1 -timeout 15m -v -run 'TestSimulation$' ./broker
# Every fuzz target of what reads from strangers, for a moment: more than the seeds, which
# are all that the tests below look at. It goes on from what earlier runs found.
FUZZTIME=${FUZZTIME:-2s} test/fuzz.sh ./mdp ./zsock ./broker
exec go test -race -count=1 -timeout 40m ./...
