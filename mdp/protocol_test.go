package mdp

import (
	"bytes"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// docs/PROTOCOL.md is what others implement: its examples and tables must be what
// this package does.
func protocol(t *testing.T) string {
	t.Helper()
	p, err := os.ReadFile("../docs/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// hexBlock returns the frames of the block fenced as "hex name"; lines that begin
// with -- part them.
func hexBlock(t *testing.T, name string) [][]byte {
	t.Helper()
	_, after, ok := strings.Cut(protocol(t), "```hex "+name+"\n")
	if !ok {
		t.Fatalf("no block %q", name)
	}
	block, _, _ := strings.Cut(after, "```")
	var wire [][]byte
	for _, part := range regexp.MustCompile(`(?m)^--.*$`).Split(block, -1) {
		wire = append(wire, unhex(t, part))
	}
	return wire
}

func TestProtocolExamples(t *testing.T) {
	t.Parallel()
	id := RequestID{0x9f, 0x3c, 0x51, 0x0e, 0x77, 0xa2, 0xd4, 0x18, 15: 1}
	request := Command{Role: Client, Kind: Request, Dialect: Native, Service: []byte("echo"),
		Head: Head{Flags: FlagNoWait, Token: 1, ID: id, Remaining: 5000, Attempt: 1}}
	refusal := Command{Role: Client, Kind: Final, Dialect: Native, Head: Head{Token: 1, ID: id, Attempt: 1}}
	refusal.SetError(&Error{Status: NoWorker, Text: "nobody!"})
	for name, want := range map[string][][]byte{
		"request": append(Append(nil, make([]byte, MaxHead), &request), []byte("hello")),
		"error":   Append(nil, make([]byte, MaxHead), &refusal),
	} {
		got := hexBlock(t, name)
		if len(got) != len(want) {
			t.Fatalf("%s: %d frames, want %d", name, len(got), len(want))
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Errorf("%s, frame %d\ndocument %x\n    code %x", name, i, got[i], want[i])
			}
		}
	}
}

func TestProtocolTables(t *testing.T) {
	t.Parallel()
	text := protocol(t)
	statuses := regexp.MustCompile(`(?m)^\| (0|[1-9]\d\d) \| ([A-Z_]+) \|`).FindAllStringSubmatch(text, -1)
	if len(statuses) != len(statusNames) {
		t.Errorf("%d statuses, want %d", len(statuses), len(statusNames))
	}
	for _, row := range statuses {
		if code, _ := strconv.Atoi(row[1]); Status(code).String() != row[2] {
			t.Errorf("status %s is %s, not %s", row[1], Status(code), row[2])
		}
	}
	commands := regexp.MustCompile(`(?m)^\| (0[0-9A-F]) \| ([A-Z]+) \|`).FindAllStringSubmatch(text, -1)
	if len(commands) != int(Interest) {
		t.Errorf("%d commands, want %d", len(commands), Interest)
	}
	for _, row := range commands {
		if octet, _ := strconv.ParseUint(row[1], 16, 8); Kind(octet).String() != strings.ToLower(row[2]) {
			t.Errorf("command %s is %s, not %s", row[1], Kind(octet), row[2])
		}
	}
	flags := map[uint8]string{FlagOnce: "once", FlagNoWait: "no-wait", FlagDetached: "detached", FlagMap: "map",
		FlagMayHaveRun: "may have run", FlagRestartable: "restartable", FlagNeed: "need", FlagPaused: "paused"}
	rows := regexp.MustCompile(`(?m)^\| ([0-9]{2}) \| ([a-z][a-z -]+) \|`).FindAllStringSubmatch(text, -1)
	if len(rows) != len(flags) {
		t.Errorf("%d flags, want %d", len(rows), len(flags))
	}
	for _, row := range rows {
		if bit, _ := strconv.ParseUint(row[1], 16, 8); flags[uint8(bit)] != row[2] {
			t.Errorf("flag %s is %q, not %q", row[1], flags[uint8(bit)], row[2])
		}
	}
	for name, limit := range map[string]int{"map frame | 16,384": MaxMap, "at most 8,192": MaxText, "service name | 255": MaxService, "head | 585": maxReceivedHead} {
		digits := regexp.MustCompile(`[0-9,]+$`).FindString(name)
		if n, _ := strconv.Atoi(strings.ReplaceAll(digits, ",", "")); !strings.Contains(text, name) || n != limit {
			t.Errorf("limit %q is %d", name, limit)
		}
	}
}
