// Package notify tells the service manager how this process is doing: the
// sd_notify protocol, one datagram of KEY=VALUE lines to a Unix socket.
//
// The one invariant: without NOTIFY_SOCKET every call is a no-op that returns
// nil, so a daemon reports the same way under systemd, under a supervisor, and
// in a terminal. Start at Send; the named calls are Send with the fixed words of
// sd_notify(3).
package notify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Ready says that the process serves: every socket is bound and the first turn
// of its loop is done.
func Ready() error { return Send("READY=1") }

// Stopping says that the process has begun to end: it drains and leaves.
func Stopping() error { return Send("STOPPING=1") }

// Status gives operators one line about what the process does; line breaks in
// text become spaces.
func Status(text string) error {
	return Send("STATUS=" + strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ").Replace(text))
}

// Reloading says that the process reads its configuration again; Ready ends it.
// The monotonic time stamp is what Type=notify-reload asks for.
func Reloading() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return fmt.Errorf("notify: read monotonic clock: %w", err)
	}
	return Send("RELOADING=1", "MONOTONIC_USEC="+strconv.FormatInt(now.Nano()/1000, 10))
}

// Watchdog says that the loop that owns the state still turns. Call it from that
// loop, so that a stuck loop is noticed, at least once per WatchdogInterval.
func Watchdog() error { return Send("WATCHDOG=1") }

// WatchdogInterval returns how often to call Watchdog: half of what the service
// manager allows (WATCHDOG_USEC), or 0 if it does not watch this process.
func WatchdogInterval() time.Duration {
	return watchdogInterval(os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID"), os.Getpid())
}

func watchdogInterval(usec, pid string, self int) time.Duration {
	// WATCHDOG_PID names whom the limit is meant for: a child inherits the
	// environment of a watched parent and must not answer for it.
	if pid != "" && pid != strconv.Itoa(self) {
		return 0
	}
	n, err := strconv.ParseInt(usec, 10, 64)
	if err != nil || n <= 0 || n > int64(time.Hour*24*365/time.Microsecond) {
		return 0
	}
	return time.Duration(n) * time.Microsecond / 2
}

// Send sends lines ("KEY=VALUE") as one datagram to NOTIFY_SOCKET, and does
// nothing where that is not set. It never waits for the receiver longer than a
// second. An error means that the manager was not told; the caller goes on.
func Send(lines ...string) error {
	return sendTo(os.Getenv("NOTIFY_SOCKET"), lines...)
}

func sendTo(socket string, lines ...string) error {
	if socket == "" {
		return nil
	}
	// A path, or "@name": an abstract socket, which package net spells alike.
	if socket[0] != '/' && socket[0] != '@' {
		return fmt.Errorf("notify: NOTIFY_SOCKET=%q is neither a path nor an abstract name (vsock is not supported)", socket)
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}
