package mdp

import (
	"encoding/binary"
)

// loadSize is the size in octets of the load entry behind the service name in
// peer requests, partials and finals.
const loadSize = 32

// stateSize is the part of a load entry that STATE carries.
const stateSize = 24

// Bits of a STATE entry.
const (
	stateNeed   = 0x01
	stateOnce   = 0x02
	stateBehind = 0x04
)

// Load is what one broker tells another about one service: cumulative counters
// and levels, never deltas, so that a lost message costs nothing.
type Load struct {
	Seen    uint32 // requests of the receiver that the sender has got over this link
	Idle    uint32 // free places of workers offered (in STATE a share, on answers all)
	Queue   uint32 // requests waiting at the sender
	Via     uint32 // free places the sender believes its other links have
	MeanUs  uint32 // mean service time in microseconds
	Workers uint32 // places of the workers registered at the sender, free or not
	// ElapsedMs is the request's time since it entered the mesh, WaitedUs that of the
	// oldest one waiting at the sender, 0 if none does; neither is in STATE.
	ElapsedMs, WaitedUs uint32
}

func (l *Load) decode(p []byte) {
	l.decodeState(p)
	l.ElapsedMs = binary.BigEndian.Uint32(p[24:])
	l.WaitedUs = binary.BigEndian.Uint32(p[28:])
}

func (l *Load) decodeState(p []byte) {
	l.Seen = binary.BigEndian.Uint32(p)
	l.Idle = binary.BigEndian.Uint32(p[4:])
	l.Queue = binary.BigEndian.Uint32(p[8:])
	l.Via = binary.BigEndian.Uint32(p[12:])
	l.MeanUs = binary.BigEndian.Uint32(p[16:])
	l.Workers = binary.BigEndian.Uint32(p[20:])
}

func (l *Load) append(dst []byte) []byte {
	dst = l.appendState(dst)
	dst = binary.BigEndian.AppendUint32(dst, l.ElapsedMs)
	return binary.BigEndian.AppendUint32(dst, l.WaitedUs)
}

func (l *Load) appendState(dst []byte) []byte {
	for _, v := range [...]uint32{l.Seen, l.Idle, l.Queue, l.Via, l.MeanUs, l.Workers} {
		dst = binary.BigEndian.AppendUint32(dst, v)
	}
	return dst
}

// StateEntry is one service in the body of a STATE command.
type StateEntry struct {
	Service []byte
	Need    bool // the sender has no idle worker for it
	Once    bool // some of its workers run what they get at most once
	Behind  bool // there are workers, busy ones too, at brokers linked with it
	Load    Load // ElapsedMs and WaitedUs are not carried
}

// AppendState writes one entry onto dst: n 1, name n, bits 1, load 24. The name
// must have 1 to MaxService octets.
func AppendState(dst []byte, e *StateEntry) []byte {
	dst = append(dst, byte(len(e.Service)))
	dst = append(dst, e.Service...)
	bits := byte(0)
	if e.Need {
		bits = stateNeed
	}
	if e.Once {
		bits |= stateOnce
	}
	if e.Behind {
		bits |= stateBehind
	}
	return e.Load.appendState(append(dst, bits))
}

// NextState takes one entry off p into e and returns the rest. The entry's
// service is a view into p.
func NextState(p []byte, e *StateEntry) (rest []byte, err error) {
	if len(p) == 0 || p[0] == 0 || len(p) < 2+int(p[0])+stateSize {
		return nil, ErrTruncated
	}
	n := int(p[0])
	*e = StateEntry{Service: p[1 : 1+n : 1+n], Need: p[1+n]&stateNeed != 0, Once: p[1+n]&stateOnce != 0, Behind: p[1+n]&stateBehind != 0}
	e.Load.decodeState(p[2+n:])
	return p[2+n+stateSize:], nil
}
