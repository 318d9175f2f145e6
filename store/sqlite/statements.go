package sqlite

import (
	"context"
	"database/sql"
	"fmt"
)

// statements are the prepared statements of the writing connection.
type statements struct {
	all []*sql.Stmt

	seriesID, seriesName, addSeries       *sql.Stmt
	row, addRow, setRow, setRowRev        *sql.Stmt
	nextMark, mark, marks, clearMark      *sql.Stmt
	values, shorter, putPoint, emptyPoint *sql.Stmt
	lastRev, setLastRev                   *sql.Stmt
}

func (s *statements) prepare(ctx context.Context, conn *sql.Conn) error {
	s.all = nil
	for _, p := range []struct {
		dst   **sql.Stmt
		query string
	}{
		{&s.seriesID, `SELECT id FROM series WHERE name = ?`},
		{&s.seriesName, `SELECT name FROM series WHERE id = ?`},
		{&s.addSeries, `INSERT INTO series (name) VALUES (?) RETURNING id`},

		{&s.row, `SELECT time, value, rev FROM rows WHERE series = ? AND id = ?`},
		{&s.addRow, `INSERT INTO rows (series, id, time, value, rev) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&s.setRow, `UPDATE rows SET time = ?, value = ?, rev = ? WHERE series = ? AND id = ?`},
		{&s.setRowRev, `UPDATE rows SET rev = ? WHERE series = ? AND id = ?`},

		{&s.nextMark, `UPDATE counters SET value = value + 1 WHERE name = 'mark' RETURNING value`},
		{&s.mark, `INSERT INTO dirty (series, start, since, version) VALUES (?1, ?2, ?3, ?3)
			ON CONFLICT DO UPDATE SET version = excluded.version`},
		{&s.marks, `SELECT series, start, version FROM dirty ORDER BY since, series, start LIMIT ?`},
		{&s.clearMark, `DELETE FROM dirty WHERE series = ? AND start = ? AND version = ?`},

		{&s.values, `SELECT value FROM rows INDEXED BY rows_by_time
			WHERE series = ? AND time >= ? AND time < ? ORDER BY time, id`},
		{&s.shorter, `SELECT count, sum, sum_low, min, max, last FROM points
			WHERE series = ? AND seconds = ? AND start >= ? AND start < ? ORDER BY start`},
		// The condition keeps the rev of a point whose content did not change. A window
		// without rows gets a point only if it had one.
		{&s.putPoint, `INSERT INTO points (series, seconds, start, count, sum, sum_low, min, max, last, rev)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
			ON CONFLICT (series, seconds, start) DO UPDATE SET count = excluded.count, sum = excluded.sum,
				sum_low = excluded.sum_low, min = excluded.min, max = excluded.max, last = excluded.last, rev = excluded.rev
			WHERE (count, sum, sum_low, min, max, last) <>
				(excluded.count, excluded.sum, excluded.sum_low, excluded.min, excluded.max, excluded.last)`},
		{&s.emptyPoint, `UPDATE points SET count = 0, sum = 0, sum_low = 0, min = 0, max = 0, last = 0, rev = ?
			WHERE series = ? AND seconds = ? AND start = ? AND count > 0`},
		{&s.lastRev, `SELECT value FROM counters WHERE name = 'rev'`},
		{&s.setLastRev, `UPDATE counters SET value = ? WHERE name = 'rev'`},
	} {
		stmt, err := conn.PrepareContext(ctx, p.query)
		if err != nil {
			return fmt.Errorf("prepare %q: %w", p.query, err)
		}
		*p.dst = stmt
		s.all = append(s.all, stmt)
	}
	return nil
}

func (s *statements) close() {
	for _, stmt := range s.all {
		_ = stmt.Close()
	}
	*s = statements{}
}
