package mdp

import "encoding/binary"

// The native head, the first frame of every native message (docs/PROTOCOL.md).
// Integers are big-endian.
//
//	 0  6  "MDPC03" | "MDPW03" | "MDPB03"
//	 6  1  command               7  1  flags
//	 8  8  token                16 16  request id
//	32  4  remaining ms         36  2  attempt     38  2  status or credit
//	40  1  hops left            41  1  n           42  n  service name
//	42+n  32  load entry, in peer requests, partials and finals
const (
	headSize = 42
	// MaxHead is the size of the largest native head in octets.
	MaxHead = headSize + MaxService + loadSize
	// maxReceivedHead leaves later revisions room for fields behind the ones above. A
	// head is no place to hide a body in: bounds count bodies.
	maxReceivedHead = MaxHead + 256
)

// Flags of a native head.
const (
	FlagOnce        uint8 = 0x01 // request: run at most once
	FlagNoWait      uint8 = 0x02 // request: NO_WORKER at once when there is none
	FlagDetached    uint8 = 0x04 // request: goes on without its client; answer kept for ATTACH
	FlagMap         uint8 = 0x08 // a map frame follows the head
	FlagMayHaveRun  uint8 = 0x10 // error answer: the request may have run
	FlagRestartable uint8 = 0x20 // request: may be redelivered after a partial
	FlagNeed        uint8 = 0x40 // peers: the sender has no idle worker for the service
	FlagPaused      uint8 = 0x80 // heartbeat of peers: the sender takes nothing new over the link
)

// RequestID names a request end to end, over retries and brokers.
type RequestID [16]byte

// Head holds the fields of the native head that a Command does not name itself.
type Head struct {
	Flags uint8
	// Token is chosen by the sender of a request for this link alone and echoed by
	// every answer to it.
	Token uint64
	ID    RequestID
	// Remaining is the rest of the deadline in milliseconds; 0 means none. In a peer
	// heartbeat: milliseconds since the sender last heard the receiver.
	Remaining uint32
	// Attempt counts from 1.
	Attempt uint16
	// Status is the outcome in answers; in Hello and Credit, the number of requests
	// the worker runs at once.
	Status uint16
	// Hops is how often the request may still be handed to another broker.
	Hops uint8
	// Load is the sender's entry for the service, in peer requests and answers.
	Load Load
}

func nativeRole(head []byte) Role {
	if len(head) < 6 || string(head[:3]) != "MDP" || head[4] != '0' || head[5] != '3' {
		return 0
	}
	switch head[3] {
	case 'C':
		return Client
	case 'W':
		return Worker
	case 'B':
		return Peer
	}
	return 0
}

// hasLoad tells whether a head of this kind ends with a load entry.
func hasLoad(role Role, kind Kind) bool {
	return role == Peer && (kind == Request || kind == Partial || kind == Final)
}

// decodeNative ignores octets behind the last field it knows: later revisions may
// add some there.
func decodeNative(frames [][]byte, role Role, c *Command) error {
	h := frames[0]
	c.Role, c.Dialect = role, Native
	if len(h) < headSize {
		return ErrHead
	}
	c.Kind = Kind(h[6])
	if c.Kind == 0 || c.Kind > Interest || (role != Peer && c.Kind >= State) {
		return ErrCommand
	}
	c.Head = Head{
		Flags:     h[7],
		Token:     binary.BigEndian.Uint64(h[8:]),
		Remaining: binary.BigEndian.Uint32(h[32:]),
		Attempt:   binary.BigEndian.Uint16(h[36:]),
		Status:    binary.BigEndian.Uint16(h[38:]),
		Hops:      h[40],
	}
	copy(c.Head.ID[:], h[16:32])
	end := headSize + int(h[41])
	if len(h) < end || len(h) > maxReceivedHead {
		return ErrHead
	}
	if end > headSize {
		c.Service = h[headSize:end:end]
	} else if needsService(role, c.Kind) {
		return ErrService
	}
	if hasLoad(role, c.Kind) {
		if len(h) < end+loadSize {
			return ErrHead
		}
		c.Head.Load.decode(h[end:])
	}
	c.Body = 1
	if h[7]&FlagMap != 0 {
		if len(frames) < 2 || len(frames[1]) == 0 || len(frames[1]) > MaxMap {
			return ErrMap
		}
		c.Map, c.Body = frames[1], 2
	}
	return nil
}

// needsService tells which commands make no sense without a service name.
func needsService(role Role, kind Kind) bool {
	return kind == Request || (role == Worker && kind == Hello) || (role == Peer && (kind == Partial || kind == Final))
}

func appendNative(dst [][]byte, scratch []byte, c *Command) [][]byte {
	h := scratch[:headSize]
	copy(h, "MDPC03")
	switch c.Role {
	case Worker:
		h[3] = 'W'
	case Peer:
		h[3] = 'B'
	}
	h[6], h[7] = byte(c.Kind), c.Head.Flags&^FlagMap
	if c.Map != nil {
		h[7] |= FlagMap
	}
	binary.BigEndian.PutUint64(h[8:], c.Head.Token)
	copy(h[16:32], c.Head.ID[:])
	binary.BigEndian.PutUint32(h[32:], c.Head.Remaining)
	binary.BigEndian.PutUint16(h[36:], c.Head.Attempt)
	binary.BigEndian.PutUint16(h[38:], c.Head.Status)
	h[40], h[41] = c.Head.Hops, byte(len(c.Service))
	h = append(h, c.Service...)
	if hasLoad(c.Role, c.Kind) {
		h = c.Head.Load.append(h)
	}
	dst = append(dst, h)
	if c.Map != nil {
		dst = append(dst, c.Map)
	}
	return dst
}
