package mdp

// Header frames of RFC 7 and RFC 18. The header of the very message decides the
// command table: octet 04 is HEARTBEAT in 0.1 and FINAL in 0.2.
var (
	headerC01 = []byte("MDPC01")
	headerC02 = []byte("MDPC02")
	headerW01 = []byte("MDPW01")
	headerW02 = []byte("MDPW02")
	empty     = []byte{}
)

// octets holds one-octet frames, so that writing a command allocates nothing.
var octets = [...][]byte{{0}, {1}, {2}, {3}, {4}, {5}, {6}}

// Worker command octets, by octet. RFC 7 section "MDP/Worker", RFC 18 likewise.
var (
	workerKinds01 = [...]Kind{1: Ready, 2: Request, 3: Final, 4: Heartbeat, 5: Disconnect}
	workerKinds02 = [...]Kind{1: Ready, 2: Request, 3: Partial, 4: Final, 5: Heartbeat, 6: Disconnect}
)

// header finds the protocol header: the first frame, or the first one behind an
// empty delimiter. It returns its index, or -1.
func header(frames [][]byte) int {
	if isHeader(frames[0]) {
		return 0
	}
	for i := 0; i+1 < len(frames) && i <= MaxEnvelope; i++ {
		if len(frames[i]) == 0 && isHeader(frames[i+1]) {
			return i + 1
		}
	}
	return -1
}

func isHeader(f []byte) bool {
	return len(f) == 6 && string(f[:3]) == "MDP" && (f[3] == 'C' || f[3] == 'W') && f[4] == '0' && (f[5] == '1' || f[5] == '2')
}

func decodeForeign(frames [][]byte, at Side, c *Command) error {
	i := header(frames)
	if i < 0 {
		if len(frames) == 1 && len(frames[0]) == 0 {
			return ErrEmpty
		}
		return ErrHeader
	}
	c.Dialect = V01
	if frames[i][5] == '2' {
		c.Dialect = V02
	}
	if i > 0 {
		c.Delimited, c.Envelope = true, frames[:i-1:i-1]
		for _, f := range c.Envelope {
			if len(f) > MaxEnvelopeSize {
				return ErrEnvelope
			}
		}
	}
	if frames[i][3] == 'C' {
		c.Role = Client
		return decodeClient(frames, i+1, at, c)
	}
	c.Role = Worker
	return decodeWorker(frames, i+1, c)
}

// decodeClient reads the frames of the client half from i, behind the header.
func decodeClient(frames [][]byte, i int, at Side, c *Command) error {
	c.Kind = Request
	if at == AtEndpoint {
		c.Kind = Final
	}
	if len(frames) <= i {
		return ErrTruncated
	}
	if c.Dialect == V02 {
		switch {
		case len(frames[i]) > 1 && c.Delimited:
			c.Dialect = Bare
		case len(frames[i]) == 1 && clientCommand(frames[i][0], at, c):
			i++
		default:
			return ErrCommand
		}
	}
	if c.Dialect == Majortomo && at == AtEndpoint {
		c.Body = i
		return nil
	}
	return serviceFrame(frames, i, c)
}

// clientCommand reads the command octet of RFC 18's client half. A delimiter and
// octet 02 in a request come from majortomo alone; its answers are 03 and 04.
func clientCommand(octet byte, at Side, c *Command) bool {
	switch {
	case at == AtBroker && octet == 1:
	case at == AtBroker && octet == 2 && c.Delimited:
		c.Dialect = Majortomo
	case at == AtEndpoint && octet == 2:
		c.Kind = Partial
	case at == AtEndpoint && octet == 3 && !c.Delimited:
	case at == AtEndpoint && (octet == 3 || octet == 4) && c.Delimited:
		c.Dialect = Majortomo
		if octet == 3 {
			c.Kind = Partial
		}
	default:
		return false
	}
	return true
}

func serviceFrame(frames [][]byte, i int, c *Command) error {
	if len(frames) <= i {
		return ErrTruncated
	}
	if n := len(frames[i]); n == 0 || n > MaxService {
		return ErrService
	}
	c.Service, c.Body = frames[i], i+1
	return nil
}

// decodeWorker reads the frames of the worker half from i, behind the header.
// Extra frames behind READY, HEARTBEAT and DISCONNECT are accepted: real peers
// send them.
func decodeWorker(frames [][]byte, i int, c *Command) error {
	if len(frames) <= i {
		return ErrTruncated
	}
	kinds := workerKinds02[:]
	if c.Dialect == V01 {
		kinds = workerKinds01[:]
	}
	if len(frames[i]) != 1 || int(frames[i][0]) >= len(kinds) || kinds[frames[i][0]] == 0 {
		return ErrCommand
	}
	c.Kind = kinds[frames[i][0]]
	i++
	switch c.Kind {
	case Ready:
		return serviceFrame(frames, i, c)
	case Request, Partial, Final:
		if len(frames) <= i {
			return ErrTruncated
		}
		c.Address = frames[i]
		i++
		// The guide's PHP worker leaves out the empty frame: strip it, never demand it.
		if len(frames) > i && len(frames[i]) == 0 {
			i++
		}
	}
	c.Body = i
	return nil
}

func appendForeign(dst [][]byte, c *Command) [][]byte {
	dst = append(dst, c.Envelope...)
	if c.Delimited {
		dst = append(dst, empty)
	}
	if c.Role == Worker {
		return appendWorker(dst, c)
	}
	switch c.Dialect {
	case V01:
		return append(dst, headerC01, c.Service)
	case Bare:
		return append(dst, headerC02, c.Service)
	case Majortomo:
		if c.Kind == Request {
			return append(dst, headerC02, octets[2], c.Service)
		}
		return append(dst, headerC02, octets[clientOctet(c.Kind)+1])
	}
	return append(dst, headerC02, octets[clientOctet(c.Kind)], c.Service)
}

// clientOctet is the command octet of RFC 18's client half.
func clientOctet(k Kind) int {
	switch k {
	case Partial:
		return 2
	case Final:
		return 3
	}
	return 1
}

func appendWorker(dst [][]byte, c *Command) [][]byte {
	kinds, head := workerKinds02[:], headerW02
	if c.Dialect == V01 {
		kinds, head = workerKinds01[:], headerW01
	}
	octet := 0
	for i, k := range kinds {
		if k == c.Kind {
			octet = i
		}
	}
	dst = append(dst, head, octets[octet])
	switch c.Kind {
	case Ready:
		dst = append(dst, c.Service)
	case Request, Partial, Final:
		dst = append(dst, c.Address, empty)
	}
	return dst
}

// AppendAddress writes a token as the client address frame foreign workers get:
// 16 lower-case hex digits, because some of them decode it as text.
func AppendAddress(dst []byte, token uint64) []byte {
	const digits = "0123456789abcdef"
	for shift := 60; shift >= 0; shift -= 4 {
		dst = append(dst, digits[token>>shift&15])
	}
	return dst
}

// ParseAddress reads back what AppendAddress wrote. Anything else is not ours.
func ParseAddress(address []byte) (token uint64, ok bool) {
	if len(address) != 16 {
		return 0, false
	}
	for _, d := range address {
		switch {
		case d >= '0' && d <= '9':
			token = token<<4 | uint64(d-'0')
		case d >= 'a' && d <= 'f':
			token = token<<4 | uint64(d-'a'+10)
		default:
			return 0, false
		}
	}
	return token, true
}
