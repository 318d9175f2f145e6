package zsock

import (
	"errors"
	"net"
	"time"
)

// setUserTimeout does nothing: TCP_USER_TIMEOUT is Linux's; keepalive remains.
func setUserTimeout(*net.TCPConn, time.Duration) {}

// unacknowledged is not known here.
func unacknowledged(int) int { return 0 }

// writeSegments is not called here: connections have no descriptor to try (newConn).
func writeSegments(int, [][]byte) (int, error) { return 0, errors.ErrUnsupported }
