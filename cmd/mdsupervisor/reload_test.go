package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const fewer = `
[[child]]
name = "one"
command = ["sleep", "1000"]

[[child]]
name = "new"
command = ["sleep", "1000"]
`

// TestHangupReloads: SIGHUP ends nothing but what the file no longer names, and a
// bad file not even that.
func TestHangupReloads(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	path := file(t, dir, sleepers)
	d := start(t, path)
	before := d.started()
	hangUp := func() {
		t.Helper()
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"RELOADING=1", "READY=1"} {
			if note := <-d.told; !strings.HasPrefix(note, want) {
				t.Fatalf("told the service manager %q, want %s", note, want)
			}
		}
	}
	hangUp()
	if after := d.status(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the same file changed children: %v, were %v", after, before)
	}
	file(t, dir, "[[child]]\nnme = 1\n")
	hangUp()
	d.line(`mesh\.toml:2:1: unknown key`)
	if after := d.status(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("a bad file changed children: %v, were %v", after, before)
	}
	file(t, dir, fewer)
	hangUp()
	after := d.started()
	if len(after) != 2 || after[0] != before[0] || after[1].Name != "new" || after[1].State != "up" || !gone(before[1].PID) || !gone(before[2].PID) {
		t.Errorf("another file: %v, were %v", after, before)
	}
}

func TestReloadCommand(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	d := start(t, file(t, dir, sleepers))
	if code, out, errs := call(t, "-o", "json", "reload", "--socket", d.socket); code != 0 || out != "[]\n" || errs != "" {
		t.Errorf("the same file: exit code %d, %q, %q", code, out, errs)
	}
	file(t, dir, fewer)
	if code, out, errs := call(t, "reload", "--socket", d.socket); code != 0 || errs != "" || strings.Contains(out, "one") ||
		!strings.Contains(out, "new ") || !strings.Contains(out, "many:0 ") || !strings.Contains(out, "many:1 ") {
		t.Errorf("another file: exit code %d, %q, %q", code, out, errs)
	}
	file(t, dir, fewer+"\n[[child]]\nname = \"bad\"\ncommand = [\"no-such-program\"]\n")
	if code, out, errs := call(t, "reload", "--socket", d.socket); code != 1 || !strings.Contains(out, "bad ") || !strings.Contains(errs, "not started: bad is backoff") {
		t.Errorf("a child that cannot start: exit code %d, %q, %q", code, out, errs)
	}
	file(t, dir, "[[child]]\n")
	if code, out, errs := call(t, "reload", "--socket", d.socket); code != 78 || out != "" || !strings.Contains(errs, "mesh.toml:1:3: the child has no name") {
		t.Errorf("a bad file: exit code %d, %q, %q", code, out, errs)
	}
	if code, _, _ := call(t, "reload", "one", "--socket", d.socket); code != 64 {
		t.Errorf("with a name: exit code %d", code)
	}
}

// TestTerminalGone: a supervisor on a terminal that is closed ends, and its children
// with it.
func TestTerminalGone(t *testing.T) {
	t.Parallel()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	dir := folder(t)
	told := notifications(t, filepath.Join(dir, "n"))
	cmd := program(context.Background(), "run", "--config", file(t, dir, sleepers), "--socket", filepath.Join(dir, "s"))
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(dir, "n"))
	cmd.Stdin = terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	terminal.Close()
	if note := <-told; note != "READY=1" {
		t.Fatalf("told the service manager %q", note)
	}
	children := (&daemon{t: t, socket: filepath.Join(dir, "s")}).status()
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // somebody's, while the terminal is there
		t.Fatal(err)
	}
	for _, want := range []string{"RELOADING=1", "READY=1"} {
		if note := <-told; !strings.HasPrefix(note, want) {
			t.Fatalf("told the service manager %q, want %s", note, want)
		}
	}
	if err := master.Close(); err != nil {
		t.Fatal(err)
	}
	if note := <-told; note != "STOPPING=1" {
		t.Errorf("told the service manager %q", note)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("ended with %v", err)
	}
	for _, c := range children {
		if !gone(c.PID) {
			t.Errorf("%s (pid %d) is left", c.Name, c.PID)
		}
	}
}
