//go:build !linux

package procs

import (
	"context"
	"errors"
)

// awake is the role of no process here.
const awake = "awake"

// KeepAwake is for Linux.
func (g *Group) KeepAwake(context.Context) error {
	return errors.New("processors are kept awake on Linux only: set AWAKE=no")
}

func stayAwake(context.Context) error { return errors.ErrUnsupported }
