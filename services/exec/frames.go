package exec

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mdmesh/mdmesh/worker"
)

// The first octet of an answer (docs/EXEC.md).
const (
	answerOK    = 0
	answerError = 1
	answerPart  = 2 // in frames of version 2
)

// Numbered is the version of the frames in which requests have numbers, answers name
// them, and parts of answers may come before the last one. In the version before it
// none of this is there.
const Numbered = 2

// maxAnswerFrames leaves room in a message for the frames of the protocol.
const maxAnswerFrames = 1000

// Why an answer cannot be used.
var (
	errRubbish = errors.New("its output is no answer")
	errTooBig  = errors.New("its answer is too large")
	errUnsent  = errors.New("a part of its answer cannot be passed on")
	// errHalfRead is no caller's business: the answer is good.
	errHalfRead = errors.New("it did not read the whole request")
)

// header is the first frame of a request, as JSON.
type header struct {
	Service  string `json:"service"`
	ID       string `json:"id"`
	Attempt  int    `json:"attempt"`
	Caller   string `json:"caller"`                // the process that called, 16 hex digits
	Deadline *int64 `json:"deadline_ms,omitempty"` // time left; absent without a deadline
}

func newHeader(ctx context.Context, r *worker.Request) header {
	id := r.ID.String()
	h := header{Service: r.Service, ID: id, Attempt: r.Attempt, Caller: id[:len(id)/2]} // its first half names the process
	if deadline, ok := ctx.Deadline(); ok {
		left := max(time.Until(deadline).Milliseconds(), 0)
		h.Deadline = &left
	}
	return h
}

// appendRequest appends a request as a child reads it: in frames of version 2 its
// number, then how many frames there are, then length and octets of each. The header is
// the first one.
func appendRequest(dst []byte, version int, number uint32, h header, body [][]byte) []byte {
	first, err := json.Marshal(h)
	if err != nil {
		panic(err) // strings and numbers
	}
	if version == Numbered {
		dst = binary.BigEndian.AppendUint32(dst, number)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(1+len(body)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(first)))
	dst = append(dst, first...)
	for _, f := range body {
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// answer is what a child wrote for one request.
type answer struct {
	number uint32 // of the request; 0 where they have none
	part   bool   // more comes
	failed bool
	frames [][]byte
	err    error // nothing can be read behind it
}

// readAnswer reads one answer, or part of one, of at most max octets. It allocates as
// octets come, not as they are announced. io.EOF means that there is none.
func readAnswer(r *bufio.Reader, version, max int) (a answer) {
	status, err := r.ReadByte()
	if err != nil {
		return answer{err: err}
	}
	switch {
	case version == Numbered && status > answerPart:
		return answer{err: fmt.Errorf("%w: it begins with octet %#02x, want 00, 01 or 02", errRubbish, status)}
	case version != Numbered && status > answerError:
		return answer{err: fmt.Errorf("%w: it begins with octet %#02x, want 00 or 01", errRubbish, status)}
	case version == Numbered:
		if a.number, err = readUint32(r); err != nil {
			return answer{err: err}
		}
	}
	a.failed, a.part = status == answerError, status == answerPart
	n, err := readUint32(r)
	if err != nil {
		return answer{err: err}
	}
	if n > maxAnswerFrames {
		return answer{err: fmt.Errorf("%w: %d frames, want %d at most", errRubbish, n, maxAnswerFrames)}
	}
	for range n {
		size, err := readUint32(r)
		if err != nil {
			return answer{err: err}
		}
		if uint64(size) > uint64(max) {
			return answer{err: errTooBig}
		}
		max -= int(size)
		var frame bytes.Buffer
		if _, err := io.CopyN(&frame, r, int64(size)); err != nil {
			return answer{err: cutShort(err)}
		}
		a.frames = append(a.frames, frame.Bytes())
	}
	return a
}

func readUint32(r io.Reader) (uint32, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, cutShort(err)
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

// cutShort makes an end within an answer what it is.
func cutShort(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
