package sqlite

import (
	"context"
	"errors"
	"fmt"

	driver "modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/mdmesh/mdmesh/store"
)

// ErrCorrupt tells that the file is damaged or is no store of ours. Nothing is
// repaired or removed: stop the services, move the file away (with its -wal and
// -shm) or restore it from a backup.
var ErrCorrupt = fmt.Errorf("%w: file is damaged or is no mesh store; move it away or restore it", store.ErrUnusable)

// wrap names the operation and the file, and adds the class of err: what may pass
// by itself is store.ErrUnavailable, a bad file store.ErrUnusable, all else is left as
// it is.
func wrap(op, path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrUnusable):
		return fmt.Errorf("sqlite: %s %s: %w", op, path, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("sqlite: %s %s: %w", op, path, err)
	}
	switch code(err) {
	case codes.SQLITE_BUSY, codes.SQLITE_LOCKED, codes.SQLITE_FULL, codes.SQLITE_IOERR, codes.SQLITE_CANTOPEN,
		codes.SQLITE_READONLY, codes.SQLITE_PROTOCOL, codes.SQLITE_NOMEM, codes.SQLITE_INTERRUPT, codes.SQLITE_PERM:
		return fmt.Errorf("sqlite: %s %s: %w: %w", op, path, store.ErrUnavailable, err)
	case codes.SQLITE_CORRUPT, codes.SQLITE_NOTADB:
		return fmt.Errorf("sqlite: %s %s: %w: %w", op, path, ErrCorrupt, err)
	}
	return fmt.Errorf("sqlite: %s %s: %w", op, path, err)
}

// code returns SQLite's primary result code, and -1 for errors of other origin.
func code(err error) int {
	var e *driver.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return -1
}

// busy tells that another process holds the lock just now.
func busy(err error) bool {
	c := code(err)
	return c == codes.SQLITE_BUSY || c == codes.SQLITE_LOCKED
}
