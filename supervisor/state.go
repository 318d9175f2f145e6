package supervisor

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// note is what a next supervisor must know of one child, kept in SOCKET.state.
// A note in state starting without a PID is an intent: the process may exist or
// not, and is looked for by its mark.
type note struct {
	Name     string    `json:"name"`
	State    string    `json:"state"`
	PID      int       `json:"pid"`
	Start    uint64    `json:"start"` // field 22 of /proc/PID/stat, clock ticks since boot
	Mark     string    `json:"mark"`  // value of MD_SUPERVISED in its environment
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`
	Held     bool      `json:"held"`             // stopped by an operator
	Finished bool      `json:"finished"`         // ended by itself and is not to start again
	Reason   string    `json:"reason,omitempty"` // why it is in that state
	Spec     string    `json:"spec,omitempty"`   // digest of what the file said
}

// over says whether the child the note is about was done with by its own doing, so
// that a new supervisor must not begin it anew: given up, finished, or of a kind
// that runs once and is gone.
func (n note) over(restart Restart) bool {
	return n.State == Fatal.String() || n.Finished || restart == Temporary && n.PID > 0
}

// notes is the file. Boot tells a PID of this boot from one of an earlier.
type notes struct {
	Version  int    `json:"version"`
	Boot     string `json:"boot"`
	Children []note `json:"children"`
}

const notesVersion = 1

// saveNotes hands the engine's children to save.
func (e *engine) saveNotes() {
	e.save(e.notes())
	e.dirty = false
}

func (e *engine) notes() []note {
	all := make([]note, 0, len(e.children))
	for _, c := range e.children {
		n := note{Name: c.name, State: c.state.String(), Mark: c.mark, Since: c.since, Restarts: c.restarts, Held: c.held,
			Finished: c.finished, Reason: c.reason, Spec: c.digest}
		if c.process != nil {
			n.PID, n.Start = c.process.id(), c.process.started()
		}
		all = append(all, n)
	}
	return all
}

// leave ends the file with the supervisor. What an operator stopped stays so when
// the next one starts; all else begins anew with it.
func (e *engine) leave(path string) error {
	held := slices.DeleteFunc(e.notes(), func(n note) bool { return !n.Held })
	if len(held) > 0 {
		return writeNotes(path, held)
	}
	return os.Remove(path)
}

// newMark returns a value for MD_SUPERVISED that no other start has.
func newMark(name string) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return name + "/" + hex.EncodeToString(random[:])
}

// writeNotes replaces the file as a whole. It does not sync: after a crash of the
// machine no child is left that the notes could be about.
func writeNotes(path string, children []note) error {
	text, err := json.Marshal(notes{Version: notesVersion, Boot: bootID(), Children: children})
	if err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	if err := os.Rename(fresh, path); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return nil
}

// readNotes returns the notes of an earlier supervisor, none if there are none or
// they are of an earlier boot. A file that cannot be understood is an error: to
// go on would risk twins.
func readNotes(path string) ([]note, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var n notes
	if err := json.Unmarshal(text, &n); err != nil || n.Version != notesVersion {
		return nil, fmt.Errorf("read state: %s is damaged or of another version; children it names may still run: "+
			"stop them (their environment has %s), then remove the file", path, envMark)
	}
	if n.Boot != bootID() {
		return nil, nil
	}
	return n.Children, nil
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(id))
}

// ErrRunning means that another supervisor holds the lock of this socket.
var ErrRunning = errors.New("another supervisor is running")

// lockWait is how long a lock is waited for whose holder is dead. A supervisor
// killed in the middle of a start leaves a copy of the lock in the new process
// until that has executed its program; when it is free, that process has its
// mark, and is found.
const lockWait = 5 * time.Second

// takeLock locks path for this process and writes the PID into it. The lock ends with
// dropLock, or when the process dies; the file stays.
func takeLock(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for end := time.Now().Add(lockWait); ; time.Sleep(10 * time.Millisecond) {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			break
		}
		holder := lockHolder(path)
		if errors.Is(err, syscall.EWOULDBLOCK) && holder > 0 && !alive(holder) && time.Now().Before(end) {
			continue
		}
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: pid %d holds %s; stop it with: mdsupervisor shutdown --socket %s",
				ErrRunning, holder, path, strings.TrimSuffix(path, lockSuffix))
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := errors.Join(file.Truncate(0), writeAt(file, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		file.Close()
		return nil, fmt.Errorf("lock: %w", err)
	}
	return file, nil
}

// dropLock ends the lock at once. To close the file is not enough while a process that
// is just being started, of whatever part of this one, has a copy of it.
func dropLock(lock *os.File) {
	_ = syscall.Flock(int(lock.Fd()), syscall.LOCK_UN)
	_ = lock.Close()
}

func writeAt(file *os.File, text string) error {
	_, err := file.WriteAt([]byte(text), 0)
	return err
}

// lockHolder returns the PID written in a lock file, 0 if there is none.
func lockHolder(path string) int {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

func alive(pid int) bool {
	stat, err := readStat(pid)
	return err == nil && !stat.dead()
}
