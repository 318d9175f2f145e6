package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/mdmesh/mdmesh/store"
)

// ErrSchema tells that the file was made by another program, or by a newer mdmesh.
var ErrSchema = fmt.Errorf("%w: schema not supported", store.ErrUnusable)

// applicationID marks our files ("mdms"), so that another program's database
// under our name is refused instead of changed.
const applicationID = 0x6d646d73

// migrations[i] brings a file from version i to i+1. Only ever append.
var migrations = []string{
	// 1: names, rows, marks, points, counters.
	//
	// rows_by_time holds the value, so that computing a window touches nothing else.
	// STRICT refuses what a foreign writer might put in by mistake.
	`
CREATE TABLE series (
  id   INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE rows (
  series INTEGER NOT NULL REFERENCES series (id),
  id     TEXT    NOT NULL,
  time   INTEGER NOT NULL,
  value  REAL    NOT NULL,
  rev    INTEGER NOT NULL CHECK (rev >= 0),
  PRIMARY KEY (series, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX rows_by_time ON rows (series, time, id, value);

CREATE TABLE dirty (
  series  INTEGER NOT NULL REFERENCES series (id),
  start   INTEGER NOT NULL,
  since   INTEGER NOT NULL,
  version INTEGER NOT NULL,
  PRIMARY KEY (series, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX dirty_by_age ON dirty (since, series, start, version);

CREATE TABLE points (
  series  INTEGER NOT NULL REFERENCES series (id),
  seconds INTEGER NOT NULL CHECK (seconds IN (10, 60, 3600, 86400)),
  start   INTEGER NOT NULL,
  count   INTEGER NOT NULL CHECK (count >= 0),
  sum     REAL    NOT NULL,
  sum_low REAL    NOT NULL,
  min     REAL    NOT NULL,
  max     REAL    NOT NULL,
  last    REAL    NOT NULL,
  rev     INTEGER NOT NULL,
  PRIMARY KEY (series, seconds, start)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX points_by_rev ON points (rev);

CREATE TABLE counters (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, value) VALUES ('rev', 0), ('mark', 0);
`,
}

// migrate brings the file to the newest version inside one transaction that
// begins with the write lock: of several processes one does it, the others wait
// and find it done.
func migrate(ctx context.Context, conn *sql.Conn) error {
	var app, version, tables int
	for query, dst := range map[string]*int{
		"PRAGMA application_id":              &app,
		"PRAGMA user_version":                &version,
		"SELECT count(*) FROM sqlite_schema": &tables,
	} {
		if err := conn.QueryRowContext(ctx, query).Scan(dst); err != nil {
			return err
		}
	}
	switch {
	case app != applicationID && (app != 0 || version != 0 || tables != 0):
		return fmt.Errorf("%w: the file belongs to another program (application id %#x)", ErrSchema, app)
	case version > len(migrations):
		return fmt.Errorf("%w: version %d is newer than this program's %d: update mdmesh", ErrSchema, version, len(migrations))
	}
	if version == len(migrations) {
		return nil
	}
	for ; version < len(migrations); version++ {
		if _, err := conn.ExecContext(ctx, migrations[version]); err != nil {
			return fmt.Errorf("migrate to version %d: %w", version+1, err)
		}
	}
	// Pragmas take no parameters; both values are ours.
	_, err := conn.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d; PRAGMA user_version = %d", applicationID, version))
	return err
}
