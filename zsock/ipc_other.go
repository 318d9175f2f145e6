//go:build !unix

package zsock

import (
	"context"
	"errors"
	"net"
)

var errNoIPC = errors.New("ipc:// needs a system with socket files that have an owner: use tcp://HOST:PORT")

func listenIPC(string) (net.Listener, error)            { return nil, errNoIPC }
func dialIPC(context.Context, string) (net.Conn, error) { return nil, errNoIPC }
