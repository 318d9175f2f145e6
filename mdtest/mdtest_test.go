package mdtest_test

import (
	"bytes"
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/mdmesh/mdmesh/mdtest"
	"github.com/mdmesh/mdmesh/worker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func upper(_ context.Context, r *worker.Request) ([][]byte, error) {
	return [][]byte{bytes.ToUpper(r.Bytes())}, nil
}

func TestBrokerWorkerClient(t *testing.T) {
	t.Parallel()
	b := mdtest.StartBroker(t)
	mdtest.StartWorker(t, b, "upper", upper)
	c := mdtest.Client(t, b)
	answer, err := c.Call(t.Context(), "upper", []byte("hello"))
	if err != nil || len(answer) != 1 || string(answer[0]) != "HELLO" {
		t.Fatalf("call: %q, %v", answer, err)
	}
}
