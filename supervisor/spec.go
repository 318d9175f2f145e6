package supervisor

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mdmesh/mdmesh/internal/config"
)

// Restart says when a child that ended by itself is started again.
type Restart string

// The restart policies, named as in OTP.
const (
	Permanent Restart = "permanent" // always; the default
	Transient Restart = "transient" // unless it exited with 0
	Temporary Restart = "temporary" // never
)

// Defaults of a [[child]], and the bounds of a file.
const (
	defaultStopTimeout  = 10 * time.Second
	defaultStartTimeout = 10 * time.Second
	defaultMinUptime    = time.Second
	defaultMaxFailures  = 10
	maxNumprocs         = 1000
	maxChildren         = 4096
)

// defaultFatalExits are the exit codes after which another try cannot help:
// usage, denied, configuration (sysexits.h), as in our systemd units.
var defaultFatalExits = []int{64, 77, 78}

// File is the supervisor file:
//
//	log_dir = "/var/log/mdmesh"            # default SOCKET.logs
//
//	[[child]]
//	name = "echo"                          # letters, digits and . _ -
//	command = ["mdworker", "echo"]         # first beside mdsupervisor, then in PATH
//	numprocs = 4                           # echo:0 .. echo:3; left out: one child named echo
//	restart = "permanent"                  # transient: unless it exits with 0; temporary: never
//	group = "workers"                      # for workers:*; default is the name
//	environment = { MD_BROKER = "tcp://127.0.0.1:5555" }
//	directory = "/srv"                     # default: that of the supervisor
//	stop_signal = "TERM"                   # to the whole process group
//	stop_timeout = "10s"                   # then SIGKILL to the group
//	ready = "notify"                       # up only when it says READY=1 (sd_notify)
//	start_timeout = "10s"                  # for that; then it counts as failed
//	min_uptime = "1s"                      # a shorter run is a quick failure
//	max_failures = 10                      # that many in a row: fatal; 0 = never give up
//	fatal_exits = [64, 77, 78]             # fatal at once
//
// Children start in the order of the file and stop in reverse.
type File struct {
	LogDir string `toml:"log_dir"`
	Child  []Spec `toml:"child"`
	path   string // where it was loaded from
	folder string // of the file; relative folders in it start here
}

// Spec is one [[child]] as written; nil and empty fields mean the default.
type Spec struct {
	Name         string            `toml:"name"`
	Command      []string          `toml:"command"`
	Numprocs     *int              `toml:"numprocs"`
	Restart      Restart           `toml:"restart"`
	Group        string            `toml:"group"`
	Environment  map[string]string `toml:"environment"`
	Directory    string            `toml:"directory"`
	StopSignal   string            `toml:"stop_signal"`
	StopTimeout  *config.Duration  `toml:"stop_timeout"`
	Ready        string            `toml:"ready"`
	StartTimeout *config.Duration  `toml:"start_timeout"`
	MinUptime    *config.Duration  `toml:"min_uptime"`
	MaxFailures  *int              `toml:"max_failures"`
	FatalExits   []int             `toml:"fatal_exits"`
}

// Load reads and checks a supervisor file. Errors are *config.Error: they say
// file, line and column, and end a program with 78.
func Load(path string) (*File, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("supervisor file %s: %w", path, err)
	}
	f := &File{path: absolute, folder: filepath.Dir(absolute)}
	if err := config.File(path, f); err != nil {
		return nil, err
	}
	return f, nil
}

// CheckCommands looks up every child's command as a start would, and returns one
// error that names all that are missing. It is apart from Load because a program
// that is not there yet must not keep the others from running.
func (f *File) CheckCommands() error {
	var missing []error
	for i := range f.Child {
		c := f.Child[i].child(f.folder, f.Child[i].Name)
		if _, err := lookup(c.command[0], c.directory); err != nil {
			missing = append(missing, fmt.Errorf("child %s: %w", c.name, err))
		}
	}
	return errors.Join(missing...)
}

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	signalForm = regexp.MustCompile(`^(SIG)?[A-Z]+[0-9]*$`)
)

// Validate implements config.Validator.
func (f *File) Validate() error {
	if len(f.Child) == 0 {
		return errors.New("names no child; write at least one [[child]] with name and command")
	}
	total := 0
	seen := map[string]bool{}
	for i := range f.Child {
		s := &f.Child[i]
		if key, err := s.check(); err != nil {
			return config.At(err, "child", i, key)
		}
		if seen[s.Name] {
			return config.At(fmt.Errorf("there is another child named %q", s.Name), "child", i, "name")
		}
		seen[s.Name] = true
		total += s.procs()
	}
	if total > maxChildren {
		return fmt.Errorf("asks for %d children; the limit is %d", total, maxChildren)
	}
	return nil
}

// check returns what is wrong with s and the key it is about.
func (s *Spec) check() (key string, err error) {
	hasNUL := func(text string) bool { return strings.ContainsRune(text, 0) }
	switch {
	case s.Name == "":
		return "name", errors.New("the child has no name")
	case !nameForm.MatchString(s.Name):
		return "name", fmt.Errorf("%q is no name for a child; use up to 64 letters, digits and . _ -", s.Name)
	case s.Name == "all":
		return "name", errors.New(`"all" means every child; choose another name`)
	case len(s.Command) == 0 || s.Command[0] == "":
		return "command", fmt.Errorf(`child %s has no command; write command = ["PROGRAM", "ARGUMENT"]`, s.Name)
	case slices.ContainsFunc(s.Command, hasNUL):
		return "command", errors.New("a command cannot hold a zero octet")
	case s.Numprocs != nil && (*s.Numprocs < 1 || *s.Numprocs > maxNumprocs):
		return "numprocs", fmt.Errorf("numprocs is %d; choose 1 to %d", *s.Numprocs, maxNumprocs)
	case s.Group != "" && (!nameForm.MatchString(s.Group) || s.Group == "all"):
		return "group", fmt.Errorf("%q is no name for a group; use up to 64 letters, digits and . _ -", s.Group)
	case !slices.Contains([]Restart{"", Permanent, Transient, Temporary}, s.Restart):
		return "restart", fmt.Errorf("restart is %q; choose permanent, transient or temporary", s.Restart)
	case s.StopSignal != "" && parseSignal(s.StopSignal) == 0:
		return "stop_signal", fmt.Errorf("%q is no signal; write TERM, INT, QUIT, HUP, USR1 or another", s.StopSignal)
	case s.Ready != "" && s.Ready != "notify":
		return "ready", fmt.Errorf("ready is %q; leave it out, or choose notify", s.Ready)
	case s.MaxFailures != nil && *s.MaxFailures < 0:
		return "max_failures", errors.New("max_failures is negative; 0 means never give up")
	}
	for name, value := range s.Environment {
		if name == "" || strings.ContainsAny(name, "=\x00") || hasNUL(value) || name == envMark {
			return "environment", fmt.Errorf("%q cannot be set as an environment variable", name)
		}
	}
	for _, code := range s.FatalExits {
		if code < 1 || code > 255 {
			return "fatal_exits", fmt.Errorf("%d is no exit code of a failure; choose 1 to 255", code)
		}
	}
	return "", nil
}

func (s *Spec) procs() int {
	if s.Numprocs == nil {
		return 1
	}
	return *s.Numprocs
}

// parseSignal reads "TERM" or "SIGTERM"; 0 means that there is no such signal.
func parseSignal(name string) syscall.Signal {
	name = strings.ToUpper(name)
	if !signalForm.MatchString(name) {
		return 0
	}
	return unix.SignalNum("SIG" + strings.TrimPrefix(name, "SIG"))
}

// child builds what the engine runs under the given name; folder is where a
// relative directory starts.
func (s *Spec) child(folder, name string) *child {
	c := &child{name: name, definition: definition{
		entry:        s.Name,
		group:        s.Group,
		command:      s.Command,
		restart:      s.Restart,
		directory:    s.Directory,
		stopSignal:   syscall.SIGTERM,
		stopTimeout:  orDefault(s.StopTimeout, defaultStopTimeout),
		notifies:     s.Ready == "notify",
		startTimeout: orDefault(s.StartTimeout, defaultStartTimeout),
		minUptime:    orDefault(s.MinUptime, defaultMinUptime),
		maxFailures:  defaultMaxFailures,
		fatalExits:   defaultFatalExits,
	}}
	for _, key := range sortedKeys(s.Environment) {
		c.environment = append(c.environment, key+"="+s.Environment[key])
	}
	if c.group == "" {
		c.group = s.Name
	}
	if c.restart == "" {
		c.restart = Permanent
	}
	if c.directory != "" && !filepath.IsAbs(c.directory) {
		c.directory = filepath.Join(folder, c.directory)
	}
	if s.StopSignal != "" {
		c.stopSignal = parseSignal(s.StopSignal)
	}
	if s.MaxFailures != nil {
		c.maxFailures = *s.MaxFailures
	}
	if s.FatalExits != nil {
		c.fatalExits = s.FatalExits
	}
	c.digest = c.sum()
	return c
}

// children expands numprocs, in the order of the file.
func (f *File) children() []*child {
	var all []*child
	for i := range f.Child {
		s := &f.Child[i]
		if s.Numprocs == nil {
			all = append(all, s.child(f.folder, s.Name))
			continue
		}
		for n := range *s.Numprocs {
			all = append(all, s.child(f.folder, fmt.Sprintf("%s:%d", s.Name, n)))
		}
	}
	return all
}

func orDefault(d *config.Duration, def time.Duration) time.Duration {
	if d == nil {
		return def
	}
	return d.Duration
}
