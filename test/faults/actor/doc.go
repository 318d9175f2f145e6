// Package actor is what a test binary does when it is started again by itself: it
// becomes a worker, a client or a crowd of connections, made of the public
// libraries, in a process that can really be killed and stopped.
//
// The one invariant: an actor does what its environment says and tells it, line by
// line, on standard output; it takes orders as signals: SIGUSR1 means go on, SIGTERM
// end. Start reading at Main, which a TestMain calls first.
package actor

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
)

// The environment of an actor.
const (
	Role        = "FAULTS_ROLE" // worker, client, silent, live
	Brokers     = "FAULTS_BROKERS"
	Service     = "FAULTS_SERVICE"
	Concurrency = "FAULTS_CONCURRENCY"
	Count       = "FAULTS_COUNT" // of connections, or of calls
	Body        = "FAULTS_BODY"  // what clients ask
	Once        = "FAULTS_ONCE"
	CrashAt     = "CRASH_AT" // worker, first attempt of a request: after_read, mid_reply
)

// Main returns at once in an ordinary process. In one that was started as an actor
// it plays the part and ends the process.
func Main() {
	play, ok := map[string]func(context.Context) error{
		"worker": playWorker, "client": playClient, "crowd": playCrowd, "silent": playSilent, "live": playLive,
	}[os.Getenv(Role)]
	if !ok {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	err := play(ctx)
	stop()
	if err != nil {
		tell("failed %v", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func tell(format string, args ...any) { fmt.Printf(format+"\n", args...) }

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

func brokers() []string { return strings.Split(os.Getenv(Brokers), ",") }

// orders delivers each SIGUSR1.
func orders() <-chan os.Signal {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, syscall.SIGUSR1)
	return ch
}
