// Package relay is a TCP relay that misbehaves on demand: per direction it stalls,
// discards, delays, cuts to pieces, slows down or mangles what passes, and it
// refuses and resets connections. Words and meanings are those of memsock, for real
// sockets between real processes.
//
// The one invariant: a fault changes only what passes while it is in force; healing
// it heals the same connections. Start reading at Start and Fault.
package relay
