package procs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/mdmesh/mdmesh/internal/profile"
)

// Self is the command of the running program with other arguments: in another role.
func Self(args ...string) *exec.Cmd {
	return exec.Command("/proc/self/exe", args...)
}

// Role starts this program with arguments "role", name, args..., and waits until it
// says "ready".
func (g *Group) Role(ctx context.Context, name string, args ...string) (*Proc, error) {
	p, err := g.Start(name, Self(append([]string{"role", name}, args...)...))
	if err != nil {
		return nil, err
	}
	_, err = p.Line(ctx, "ready")
	return p, err
}

// Main is the main function of a program that starts itself in roles: it is run, or
// role in a process of Role, with the name of the role and its arguments. Ctrl-C ends
// the context of both.
func Main(program string, run func(context.Context) error, role func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := main(ctx, program, run, role); err != nil {
		fmt.Fprintln(os.Stderr, program+":", err)
		os.Exit(1)
	}
}

// main runs this process's part, with a CPU profile if one is wanted.
func main(ctx context.Context, program string, run func(context.Context) error, role func(ctx context.Context, args []string) error) (err error) {
	stop, err := profile.Start(program)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	switch {
	case len(os.Args) < 3 || os.Args[1] != "role":
		return run(ctx)
	case os.Args[2] == awake:
		return stayAwake(ctx)
	}
	return role(ctx, os.Args[2:])
}

// Told is for a process in a role: it gives the lines it is told, and a context that
// ends when nobody is left to tell any.
func Told(ctx context.Context) (context.Context, <-chan string) {
	ctx, stop := context.WithCancel(ctx)
	lines := make(chan string)
	go func() { // ends with the process: nothing interrupts a read of standard input
		defer stop()
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			select {
			case lines <- in.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, lines
}
