package worker

// table holds requests by the broker's token. It is a hash table chained through
// the requests, so that it costs no memory per request. The zero value is empty.
type table struct {
	slots []*Request // a power of two
	n     int
}

func (t *table) slot(token uint64) **Request {
	return &t.slots[token*0x9E3779B97F4A7C15>>32&uint64(len(t.slots)-1)]
}

func (t *table) find(token uint64) *Request {
	if t.n == 0 {
		return nil
	}
	r := *t.slot(token)
	for r != nil && r.token != token {
		r = r.sibling
	}
	return r
}

// add adds r, whose token is not there yet.
func (t *table) add(r *Request) {
	if t.n == len(t.slots) {
		old := t.slots
		t.slots = make([]*Request, max(4, 2*len(old)))
		for _, r := range old {
			for r != nil {
				next := r.sibling
				t.link(r)
				r = next
			}
		}
	}
	t.n++
	t.link(r)
}

func (t *table) link(r *Request) {
	at := t.slot(r.token)
	r.sibling, *at = *at, r
}

// remove takes r out and tells whether it was there.
func (t *table) remove(r *Request) bool {
	if t.n == 0 {
		return false
	}
	for at := t.slot(r.token); *at != nil; at = &(*at).sibling {
		if *at == r {
			*at, r.sibling = r.sibling, nil
			t.n--
			return true
		}
	}
	return false
}

// all calls f, which may remove the request it is given, for each.
func (t *table) all(f func(*Request)) {
	for _, r := range t.slots {
		for r != nil {
			next := r.sibling
			f(r)
			r = next
		}
	}
}
