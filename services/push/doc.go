// Package push shows roll-ups to browsers: one HTTP server with the page, the
// history as JSON (GET /api/rollups) and news over a websocket (/ws).
//
// One goroutine, the follower, reads the store for points with a rev above the
// last one it saw, twice a second and at once after a hint, and puts them into a
// mem.Cache. Each websocket client is a cursor into that cache and nothing more:
// a slow client finds several changes of one window merged into the last one,
// and costs the same memory as a fast one.
//
// The one invariant: a hint may be lost, doubled or late, and nothing is missed,
// because only the rev decides what is new. Start reading at [Service.Run], then
// follower.run and client.write.
package push
