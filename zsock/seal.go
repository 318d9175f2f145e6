package zsock

import "github.com/go-zeromq/zmq4"

// mechanism is the security of one connection: one value per connection, used by
// one goroutine until the handshake is over. zmq4 runs its Handshake; the guard
// asks it what of the peer's commands zmq4 may see.
type mechanism interface {
	zmq4.Security

	// admit checks a command that the peer sent during the handshake and returns the
	// body that may be released, which it may rewrite.
	admit(name string, body []byte) ([]byte, error)

	// sealer is how frames travel once the handshake is over; nil: in the clear.
	sealer() sealer
}

// sealer seals every frame that is sent and opens every frame that was received.
// Sealing and opening may run at the same time, each by one goroutine at a time
// and in wire order, as nonces need it. Commands travel sealed, too.
type sealer interface {
	// overhead is how much longer the sealed form is than the payload.
	overhead() int
	// seal appends the sealed form of a frame with the given MORE and COMMAND flags.
	seal(dst []byte, flags byte, payload []byte) ([]byte, error)
	// open appends the payload of a sealed frame and returns its flags.
	open(dst []byte, box []byte) (flags byte, out []byte, err error)
}
