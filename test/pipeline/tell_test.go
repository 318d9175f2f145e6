package pipeline

import (
	"bufio"
	"io"
	"net"
	"time"

	"github.com/mdmesh/mdmesh/services/ingest/record"
	"github.com/mdmesh/mdmesh/store"
	"github.com/mdmesh/mdmesh/test/meshproc"
)

const okAnswer = `{"ok": true}`

// tell sends one record over a connection of its own and returns the answer.
func (m *mesh) tell(r store.Record) string {
	m.t.Helper()
	return m.tellLine(string(record.Append(nil, r)))
}

// tellLine is tell with any text.
func (m *mesh) tellLine(line string) string {
	m.t.Helper()
	c, err := net.Dial("tcp", m.address(portIngest))
	if err != nil {
		m.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(meshproc.Guard))
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		m.t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		m.t.Fatalf("%.200q is answered %q: %v", line, answer, err)
	}
	return answer[:len(answer)-1]
}
