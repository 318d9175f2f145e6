package zsock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
)

// book is a resolver that can be changed.
type book struct {
	mu      sync.Mutex
	entries map[string][]string
	asked   int
}

func (b *book) set(host string, addresses ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = map[string][]string{host: addresses}
}

func (b *book) LookupHost(_ context.Context, host string) ([]string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	addresses, ok := b.entries[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	return append([]string(nil), addresses...), nil
}

func TestNamesAreResolvedWithEachDial(t *testing.T) {
	t.Parallel()
	l := listen(t, transport{endpoint: "tcp://127.0.0.1:0"}, Config{}, newRecorder())
	_, port, _ := strings.Cut(strings.TrimPrefix(l.Endpoint(), "tcp://"), ":")
	names := new(book)
	dial := func() error {
		c, err := Dial(t.Context(), "tcp://broker.test:"+port, Config{Type: Dealer, Network: TCP(names)}, newRecorder())
		if err == nil {
			c.Close(nil)
		}
		return err
	}
	var unknown *net.DNSError
	if err := dial(); !errors.As(err, &unknown) || !strings.Contains(err.Error(), "broker.test") {
		t.Errorf("unknown host: %v", err)
	}
	names.set("broker.test", "127.0.0.1")
	if err := dial(); err != nil {
		t.Errorf("once it is known: %v", err)
	}
	// All addresses are tried, in whatever order.
	many := []string{"127.0.0.1"}
	for i := range maxAddresses - 1 {
		many = append(many, fmt.Sprintf("127.9.9.%d", i+1))
	}
	names.set("broker.test", many...)
	for range 5 {
		if err := dial(); err != nil {
			t.Errorf("one of %d addresses is right: %v", len(many), err)
		}
	}
	// No more of them than so many.
	many = many[1:]
	for i := range 50 {
		many = append(many, fmt.Sprintf("127.9.8.%d", i+1))
	}
	names.set("broker.test", many...)
	if err := dial(); err == nil || strings.Count(err.Error(), "127.9.") != maxAddresses {
		t.Errorf("none of %d addresses is right: %v", len(many), err)
	}
	names.set("broker.test")
	if err := dial(); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("no address: %v", err)
	}
	if names.asked != 9 {
		t.Errorf("asked %d times for 9 dials", names.asked)
	}
}
