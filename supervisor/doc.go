// Package supervisor keeps child processes running: it starts them in order,
// starts them again when they end, gives up on those that only crash, and stops
// all of them in reverse order. It knows nothing of what they do.
//
// The one invariant: of each child at most one process runs, also after the
// supervisor itself was killed. A note of what is about to start is on disk
// before the start (SOCKET.state); each child carries a mark in its environment;
// and a new supervisor takes over what still runs instead of starting twins. To
// make that possible children never depend on the supervisor: their output goes
// to files, and each has a session of its own.
//
// Where to start reading: Supervisor.Run wires the parts; engine.run is the one
// goroutine that owns all state; machine.go is what it does, as a table of state
// and event; reload.go brings the children in line with a changed file. spec.go is
// the file people write, process.go the only place that touches real processes,
// control.go what mdsupervisor says over the socket.
//
// Goroutines: Run's caller is the engine; one watcher per running process (ends
// with the process, or is released at the end of Run); one accept loop and one
// goroutine per control connection, at most maxConns; one reader of readiness
// notes. All of them end before Run returns.
package supervisor
