package broker

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/vmihailenco/msgpack/v5"

	"github.com/mdmesh/mdmesh/mdp"
	"github.com/mdmesh/mdmesh/zsock"
)

// isMMI tells whether the name belongs to the broker itself (RFC 8).
func isMMI(service []byte) bool {
	return len(service) >= 4 && string(service[:4]) == "mmi."
}

// answerMMI answers a question to the broker with one body frame: at once, or, if it
// needs a list, later by the clerk.
func (b *Broker) answerMMI(batch *zsock.Batch, c *conn, m *zsock.Msg) {
	cmd := &c.cmd
	asked, about := string(cmd.Service), m.Frames()[cmd.Body:]
	reply := mdp.Command{Role: cmd.Role, Kind: mdp.Final, Dialect: cmd.Dialect, Delimited: cmd.Delimited, Envelope: cmd.Envelope}
	if cmd.Dialect == mdp.Native {
		reply.Head = mdp.Head{Token: cmd.Head.Token, ID: cmd.Head.ID, Attempt: 1}
		reply.Service = peerService(cmd)
	} else {
		reply.Service = cmd.Service
	}
	if !slices.Contains(lists, asked) {
		body := zsock.NewBody(b.mmi(asked, about))
		defer body.Release()
		c.tell(batch, &reply, body)
		return
	}
	if !b.clerk.take(c, asked, about, reply) {
		b.count.mmiRefused.Add(1)
		c.refuse(batch, nil, busy("too many questions to the broker at once"))
	}
}

// tell answers a question. It may be called by any goroutine.
func (c *conn) tell(batch *zsock.Batch, reply *mdp.Command, body zsock.Body) {
	if reply.Dialect == mdp.Native {
		c.reply(batch, reply, body)
	} else if err := c.send(batch, reply, body); err != nil {
		c.b.count.answersDropped.Add(1)
	}
}

// lists are the mmi. names whose answers are lists; beside them there is mmi.service.
var lists = []string{"mmi.services", "mmi.workers", "mmi.peers", "mmi.brokers", "mmi.poison", "mmi.request"}

// mmi is the answer to one question. Unknown ones get 501 (RFC 8).
func (b *Broker) mmi(question string, body [][]byte) []byte {
	switch question {
	case "mmi.service":
		return b.mmiService(body)
	case "mmi.services":
		return encodeListing(b.Services(), body)
	case "mmi.workers":
		return encodeListing(b.Workers(), body)
	case "mmi.peers":
		return encodeListing(b.Peers(), body)
	case "mmi.brokers":
		return encodeListing(b.Brokers(), body)
	case "mmi.poison":
		return encodeListing(b.Poison(), body)
	case "mmi.request":
		return b.mmiRequest(body)
	}
	return []byte("501")
}

// mmiService answers 200 when the service has workers, busy ones included, here
// or at a linked broker: careful clients ask first, and we would route there.
func (b *Broker) mmiService(body [][]byte) []byte {
	if len(body) == 0 || len(body[0]) == 0 || len(body[0]) > mdp.MaxService {
		return []byte("404")
	}
	if name := string(body[0]); name == "mmi.service" || slices.Contains(lists, name) || b.offers(body[0]) {
		return []byte("200")
	}
	return []byte("404")
}

// offers tells whether anybody, here or at a peer, takes requests for the service.
func (b *Broker) offers(name []byte) bool {
	s := b.find(name)
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.offered(b.now())
}

// BrokerState is one broker as clients need to know it.
type BrokerState struct {
	Name        string   `json:"name"`
	Incarnation string   `json:"incarnation"`
	Self        bool     `json:"self"` // the one that answers
	Endpoints   []string `json:"endpoints"`
	Publish     []string `json:"publish,omitempty"`
	Subscribe   []string `json:"subscribe,omitempty"`
}

// Brokers lists this broker and the linked ones, as far as they say where they are.
func (b *Broker) Brokers() []BrokerState {
	endpoints := b.endpoints("requests")
	if b.cfg.Advertise != "" {
		endpoints = []string{b.cfg.Advertise}
	}
	out := []BrokerState{{Name: b.name, Incarnation: b.incarnation, Self: true, Endpoints: endpoints,
		Publish: b.endpoints("publish"), Subscribe: b.endpoints("subscribe")}}
	for _, l := range b.upLinks() {
		if h := l.peer.Load(); h != nil {
			st := BrokerState{Name: h.Name, Incarnation: h.Incarnation, Endpoints: []string{}}
			if h.Advertise != "" {
				st.Endpoints = []string{h.Advertise}
			}
			out = append(out, st)
		}
	}
	return out
}

func inMsgpack(body [][]byte) bool { return len(body) > 1 && string(body[1]) == "msgpack" }

// encodeListing writes JSON, or msgpack with the same keys if the second body
// frame says so.
func encodeListing(v any, body [][]byte) []byte {
	if inMsgpack(body) {
		var buf bytes.Buffer
		enc := msgpack.NewEncoder(&buf)
		enc.SetCustomStructTag("json")
		if err := enc.Encode(v); err != nil {
			return []byte("500")
		}
		return buf.Bytes()
	}
	p, err := json.Marshal(v)
	if err != nil {
		return []byte("500")
	}
	return p
}
