package worker

import "github.com/mdmesh/mdmesh/zsock"

// loans are large answers that a connection writes from where they lie: in the
// handler's memory, or in the request's, which is kept so long. They go with a batch
// and end when it is flushed. There are as many as a session runs requests, at most.
type loans struct {
	all []*loan // those above n are spare
	n   int
}

type loan struct {
	zsock.Loan
	r *Request
}

// send sends the answer of r. Callers hold mu.
func (a *loans) send(b *zsock.Batch, r *Request, f *final) error {
	if a.n == len(a.all) {
		a.all = append(a.all, new(loan))
	}
	next := a.all[a.n]
	r.ctx.link.spoke = true
	if err := r.ctx.link.conn.SendLoan(b, f.frames, f.lend, &next.Loan); err != nil {
		return err
	}
	next.r, f.lent = r, true
	a.n++
	return nil
}

// end takes all back. What is not written, because the connection is full, is copied.
func (a *loans) end() {
	for _, l := range a.all[:a.n] {
		l.End()
		l.r.release()
		l.r = nil
	}
	a.n = 0
}
