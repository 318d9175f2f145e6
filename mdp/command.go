package mdp

import "errors"

// Role is the half of the protocol a message belongs to, told by its header.
type Role uint8

// The roles, named after the party that is not the broker (or is a second one).
const (
	Client Role = iota + 1 // "MDPC.."
	Worker                 // "MDPW.."
	Peer                   // "MDPB..": a link between two brokers
)

// String returns the role's name in lower case.
func (r Role) String() string {
	switch r {
	case Client:
		return "client"
	case Worker:
		return "worker"
	case Peer:
		return "peer"
	}
	return "unknown"
}

// Kind is the command. Values 1 to 14 are the native command octets.
type Kind uint8

// The commands. Ready and Disconnect exist in MDP/0.1 and 0.2 only, where they
// stand for what the native protocol says with Hello and Bye.
const (
	Hello      Kind = 0x01
	Welcome    Kind = 0x02
	Request    Kind = 0x03
	Partial    Kind = 0x04
	Final      Kind = 0x05
	Cancel     Kind = 0x06
	Credit     Kind = 0x07
	Heartbeat  Kind = 0x08
	Drain      Kind = 0x09
	Attach     Kind = 0x0A
	Bye        Kind = 0x0B
	State      Kind = 0x0C // peers only
	Event      Kind = 0x0D // peers only
	Interest   Kind = 0x0E // peers only
	Ready      Kind = 0x20 // RFC 7 and 18 READY
	Disconnect Kind = 0x21 // RFC 7 and 18 DISCONNECT
)

var kindNames = map[Kind]string{
	Hello: "hello", Welcome: "welcome", Request: "request", Partial: "partial", Final: "final",
	Cancel: "cancel", Credit: "credit", Heartbeat: "heartbeat", Drain: "drain", Attach: "attach",
	Bye: "bye", State: "state", Event: "event", Interest: "interest", Ready: "ready", Disconnect: "disconnect",
}

// String returns the command's name in lower case.
func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return "unknown"
}

// Dialect is how a peer writes its commands; answers to it are written the same way.
type Dialect uint8

// The dialects. The last two are MDP/0.2 by name only (seen in real peers): they
// differ in the client half.
const (
	Native    Dialect = iota + 1 // MDPC03, MDPW03, MDPB03
	V01                          // RFC 7
	V02                          // RFC 18
	Majortomo                    // MDPC02 whose request is 02, partial 03, final 04, without a service frame
	Bare                         // delimiter and MDPC02 without any command octet
)

// String returns the dialect's name as shown in listings.
func (d Dialect) String() string {
	names := [...]string{"unknown", "native", "0.1", "0.2", "0.2-majortomo", "0.2-bare"}
	if int(d) >= len(names) {
		return names[0]
	}
	return names[d]
}

// Command is one message, decoded. All slices are views (see the package doc).
type Command struct {
	Role    Role
	Kind    Kind
	Dialect Dialect

	// Delimited tells that an empty frame stood before the header. Answers mirror it.
	Delimited bool
	// Envelope holds the frames before that delimiter (at most MaxEnvelope); answers
	// give them back unchanged.
	Envelope [][]byte

	// Service is the service name, 1 to 255 octets, or nil where the command has none.
	// Append does not check the length; who takes names from people does.
	Service []byte
	// Address is the client address frame of a foreign worker's request or reply:
	// a token in text (see AppendAddress), or whatever a stray peer put there.
	Address []byte

	// Head holds the remaining fields of the native head; zero in other dialects.
	Head Head
	// Map is the msgpack map frame of a native message, or nil.
	Map []byte

	// Body is the index of the first body frame in the frames given to Decode.
	Body int
}

// Limits on what a peer may send.
const (
	MaxService      = 255   // octets of a service name
	MaxEnvelope     = 8     // frames of a return envelope
	MaxEnvelopeSize = 255   // octets of each of them
	MaxMap          = 16384 // octets of a map frame
)

// Errors of Decode. All mean: drop the message, count it, keep the peer. (Exception:
// a worker whose Ready has no valid service gets Disconnect, RFC 7 and 18.)
var (
	ErrEmpty     = errors.New("mdp: empty message")
	ErrHeader    = errors.New("mdp: unknown protocol header")
	ErrCommand   = errors.New("mdp: unknown command")
	ErrTruncated = errors.New("mdp: frames are missing")
	ErrHead      = errors.New("mdp: malformed native head")
	ErrService   = errors.New("mdp: service name must have 1 to 255 octets")
	ErrEnvelope  = errors.New("mdp: return envelope too large")
	ErrMap       = errors.New("mdp: map frame missing, malformed or too large")
)

// Side is where a message is read: MDP/0.1 clients write requests and read
// replies of one and the same form.
type Side uint8

// The sides.
const (
	AtBroker   Side = iota // reading what clients, workers and peers send
	AtEndpoint             // reading, as a client or worker, what a broker sends
)

// Decode reads one message into c, overwriting all of it. The hot path, a native
// message, is decided by its first frame alone. With an error, c holds what was
// understood so far: role, dialect, kind and, if native, the fixed part of the head.
//
// AtEndpoint cannot tell every dialect apart: to a hand-made REQ client of MDP/0.2
// a delimited 03 is a final, to majortomo a partial. It is read as majortomo's.
func Decode(frames [][]byte, at Side, c *Command) error {
	*c = Command{}
	if len(frames) == 0 {
		return ErrEmpty
	}
	if role := nativeRole(frames[0]); role != 0 {
		return decodeNative(frames, role, c)
	}
	return decodeForeign(frames, at, c)
}

// Append writes c's frames before the body onto dst and returns it: envelope,
// delimiter and header as c's dialect has them. A native head is written into
// scratch, which must have MaxHead octets of capacity and must live as long as
// the result, and c must not point into it; other dialects do not use it.
//
// Not every dialect has every command. A 0.1 or bare client has one form of answer,
// and writing Partial gives just that; a 0.1 worker has no Partial, and foreign
// dialects have no native command: writing those gives an octet 0, which all peers drop.
func Append(dst [][]byte, scratch []byte, c *Command) [][]byte {
	if c.Dialect == Native {
		return appendNative(dst, scratch, c)
	}
	return appendForeign(dst, c)
}
