package mdp

// maxDepth bounds how deeply arrays and maps of a map frame may nest.
const maxDepth = 16

// wellFormedMap tells whether p is exactly one msgpack map whose announced lengths
// are all covered by octets that are there. A decoder that trusts announcements
// would otherwise allocate megabytes, or recurse, for a frame of ten octets.
func wellFormedMap(p []byte) bool {
	if len(p) == 0 || !(p[0]&0xf0 == 0x80 || p[0] == 0xde || p[0] == 0xdf) {
		return false
	}
	rest, ok := skipValue(p, maxDepth)
	return ok && len(rest) == 0
}

// skipValue takes one msgpack value off p.
func skipValue(p []byte, depth int) (rest []byte, ok bool) {
	if len(p) == 0 || depth == 0 {
		return nil, false
	}
	size, values, ok := measure(p)
	if !ok || size > len(p) {
		return nil, false
	}
	p = p[size:]
	for range values {
		if p, ok = skipValue(p, depth-1); !ok {
			return nil, false
		}
	}
	return p, true
}

// measure returns how many octets the value at p takes with its header, and how
// many values nest in it. p has at least one octet. See the msgpack specification,
// section "Formats".
func measure(p []byte) (size, values int, ok bool) {
	code := p[0]
	switch {
	case code <= 0x7f || code >= 0xe0: // small integers
		return 1, 0, true
	case code <= 0x8f: // small map
		return 1, 2 * int(code&0x0f), true
	case code <= 0x9f: // small array
		return 1, int(code & 0x0f), true
	case code <= 0xbf: // small text
		return 1 + int(code&0x1f), 0, true
	}
	f := formats[code-0xc0]
	if f.head == 0 || len(p) < 1+f.length {
		return 0, 0, false
	}
	var n uint64
	for _, b := range p[1 : 1+f.length] {
		n = n<<8 | uint64(b)
	}
	if n > MaxMap {
		return 0, 0, false
	}
	return f.head + int(n)*f.octets, int(n) * f.values, true
}

// format is how the values of one code octet are laid out: the octets of the head
// (code, length and fixed content), how many of them are a length, and what each
// unit of that length stands for.
type format struct{ head, length, octets, values int }

// formats are the codes c0 to df; a zero format is a code that is never used.
var formats = [32]format{
	0x00: {head: 1}, 0x02: {head: 1}, 0x03: {head: 1}, // nil, false, true
	0x04: {2, 1, 1, 0}, 0x05: {3, 2, 1, 0}, 0x06: {5, 4, 1, 0}, // octets
	0x07: {3, 1, 1, 0}, 0x08: {4, 2, 1, 0}, 0x09: {6, 4, 1, 0}, // extensions
	0x0a: {head: 5}, 0x0b: {head: 9}, // floats
	0x0c: {head: 2}, 0x0d: {head: 3}, 0x0e: {head: 5}, 0x0f: {head: 9}, // unsigned
	0x10: {head: 2}, 0x11: {head: 3}, 0x12: {head: 5}, 0x13: {head: 9}, // signed
	0x14: {head: 3}, 0x15: {head: 4}, 0x16: {head: 6}, 0x17: {head: 10}, 0x18: {head: 18}, // fixed extensions
	0x19: {2, 1, 1, 0}, 0x1a: {3, 2, 1, 0}, 0x1b: {5, 4, 1, 0}, // text
	0x1c: {3, 2, 0, 1}, 0x1d: {5, 4, 0, 1}, // arrays
	0x1e: {3, 2, 0, 2}, 0x1f: {5, 4, 0, 2}, // maps
}
