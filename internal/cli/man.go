package cli

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mdmesh/mdmesh/internal/config"
)

// Annotations of a command that its manual page shows, and of a flag.
const (
	filesNote   = "mdmesh-files"   // lines "PATH: text"
	defaultNote = "mdmesh-default" // words instead of a default that depends on the machine
)

// programs are named at the end of each page.
var programs = []string{"mdbroker", "mdworker", "mdservice", "mdsupervisor", "mdcli"}

// Files tells manual pages, of cmd and the commands below it, which files it uses:
// pairs of path and text.
func Files(cmd *cobra.Command, pairs ...string) {
	if cmd.Annotations == nil {
		cmd.Annotations = make(map[string]string)
	}
	for pair := range slices.Chunk(pairs, 2) {
		cmd.Annotations[filesNote] += strings.Join(pair, ": ") + "\n"
	}
}

// Default gives a flag words for its default, where that depends on the machine or
// the user: pages are the same wherever they are made.
func Default(cmd *cobra.Command, flag, text string) {
	f := cmd.Flag(flag)
	if f == nil {
		panic("cli: no flag " + flag)
	}
	if f.Annotations == nil {
		f.Annotations = make(map[string][]string)
	}
	f.Annotations[defaultNote] = []string{text}
}

// manCommand writes the manual pages; only `make man` has use for it.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "man DIR",
		Short:             "Write a manual page per command into a folder",
		Hidden:            true,
		Args:              cobra.ExactArgs(1),
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // a file of flags has no say
		RunE:              func(cmd *cobra.Command, args []string) error { return writePages(cmd.Root(), args[0]) },
	}
}

func writePages(root *cobra.Command, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	walk(root, func(cmd *cobra.Command) {
		if err != nil || !documented(cmd) {
			return
		}
		var page strings.Builder
		writePage(&page, cmd)
		err = os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), []byte(page.String()), 0o644)
	})
	return err
}

// documented says whether a command has a page.
func documented(cmd *cobra.Command) bool { return !cmd.Hidden && cmd.Name() != "help" }

// pageName is "mdcli-call".
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page writes one manual page, in the man macros of groff and mandoc. What it
// writes depends on the command alone: no date, no version, no machine.
type page struct {
	w   io.Writer
	cmd *cobra.Command
}

func writePage(w io.Writer, cmd *cobra.Command) {
	cmd.InitDefaultHelpFlag()
	p := page{w, cmd}
	p.line(".TH %s 1 \"\" mdmesh \"mdmesh manual\"", strings.ToUpper(pageName(cmd)))
	p.line(".SH NAME\n%s \\- %s", escape(pageName(cmd)), escape(lowerFirst(cmd.Short)))
	p.line(".SH SYNOPSIS\n.nf\n%s\n.fi", bold(cmd.UseLine()))
	description, _ := splitExits(cmp.Or(cmd.Long, cmd.Short+"."))
	p.line(".SH DESCRIPTION")
	p.prose(description)
	p.commands()
	p.options("OPTIONS", cmd.NonInheritedFlags())
	p.options("OPTIONS OF ALL COMMANDS", cmd.InheritedFlags())
	p.exits()
	p.environment()
	p.files()
	if cmd.Example != "" {
		p.line(".SH EXAMPLES\n.EX\n%s\n.EE", verbatim(cmd.Example))
	}
	p.seeAlso()
}

func (p page) line(format string, args ...any) { fmt.Fprintf(p.w, format+"\n", args...) }

// prose writes paragraphs; those that are indented stay as they are.
func (p page) prose(text string) {
	for i, paragraph := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		switch {
		case strings.HasPrefix(paragraph, "  "):
			p.line(".PP\n.in +4n\n.EX\n%s\n.EE\n.in", verbatim(paragraph))
			continue
		case i > 0:
			p.line(".PP")
		}
		p.line("%s", escapeLines(strings.TrimRight(paragraph, "\n")))
	}
}

// item writes one entry of a list.
func (p page) item(term, text string) { p.line(".TP\n%s\n%s", bold(term), escapeLines(text)) }

func (p page) commands() {
	begun := false
	for _, sub := range p.cmd.Commands() {
		if !documented(sub) {
			continue
		}
		if !begun {
			p.line(".SH COMMANDS")
			begun = true
		}
		p.item(sub.Name(), sub.Short+".")
	}
}

func (p page) options(heading string, flags *pflag.FlagSet) {
	begun := false
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		if !begun {
			p.line(".SH %s", heading)
			begun = true
		}
		placeholder, usage := pflag.UnquoteUsage(f)
		term := "--" + f.Name
		if f.Shorthand != "" {
			term = "-" + f.Shorthand + ", " + term
		}
		p.line(".TP\n%s", strings.TrimRight(bold(term)+" "+italic(placeholder), " "))
		p.line("%s", escapeLines(sentence(usage)+describeDefault(f)))
	})
}

// describeDefault is " Default: x." unless it says nothing.
func describeDefault(f *pflag.Flag) string {
	if words := f.Annotations[defaultNote]; len(words) > 0 {
		return " Default: " + words[0] + "."
	}
	switch f.DefValue {
	case "", "false", "0", "0s", "[]":
		return ""
	}
	return " Default: " + f.DefValue + "."
}

// exits lists the codes: the command's own words before those of the commands above.
func (p page) exits() {
	p.line(".SH EXIT STATUS")
	words := make(map[int]string)
	for cmd := p.cmd; cmd != nil; cmd = cmd.Parent() {
		_, exits := splitExits(cmd.Long)
		for _, e := range exits {
			number, text, _ := strings.Cut(e, " ")
			if code, err := strconv.Atoi(number); err == nil && words[code] == "" {
				words[code] = text
			}
		}
	}
	for _, code := range slices.Sorted(maps.Keys(words)) {
		p.item(strconv.Itoa(code), sentence(words[code]))
	}
	p.line(".PP\nA program that a signal ended exits with 128 and the number of the signal.")
}

// exitWords introduces the exit codes in the long text of a command:
// "Exit codes: 0 ok; 64 wrong usage." to the end of the paragraph.
var exitWords = regexp.MustCompile(`(?s)(\n\n|\s)Exit codes: (.*?)(\n\n|$)`)

// splitExits takes the exit codes out of a long text.
func splitExits(long string) (rest string, exits []string) {
	m := exitWords.FindStringSubmatchIndex(long)
	if m == nil {
		return long, nil
	}
	for e := range strings.SplitSeq(strings.TrimRight(long[m[4]:m[5]], ".\n"), ";") {
		exits = append(exits, strings.Join(strings.Fields(e), " "))
	}
	return long[:m[0]] + long[m[6]:], exits
}

// environment lists what sets a flag.
func (p page) environment() {
	p.line(".SH ENVIRONMENT\nA variable counts where the flag is not given, and before a file.")
	var names []string
	note := func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" && f.Name != "version" {
			names = append(names, f.Name)
		}
	}
	p.cmd.NonInheritedFlags().VisitAll(note)
	p.cmd.InheritedFlags().VisitAll(note)
	slices.Sort(names)
	for _, name := range names {
		p.item(config.EnvName(name), "As --"+name+".")
	}
}

func (p page) files() {
	flags := p.cmd.Root().PersistentFlags().Lookup("config") != nil
	if !flags && p.cmd.Root().Annotations[filesNote] == "" {
		return
	}
	p.line(".SH FILES")
	for cmd := p.cmd; cmd != nil; cmd = cmd.Parent() {
		for entry := range strings.SplitSeq(strings.TrimSpace(cmd.Annotations[filesNote]), "\n") {
			if path, text, found := strings.Cut(entry, ": "); found {
				p.item(path, sentence(text))
			}
		}
	}
	if flags {
		p.item("--config FILE", "TOML: the names of flags are its keys, a table named like a command is for that one. It is read strictly; there is none by default.")
	}
}

func (p page) seeAlso() {
	var names []string
	if p.cmd.HasParent() {
		names = append(names, pageName(p.cmd.Parent()))
	}
	for _, sub := range p.cmd.Commands() {
		if documented(sub) {
			names = append(names, pageName(sub))
		}
	}
	for _, name := range programs {
		if name != p.cmd.Root().Name() {
			names = append(names, name)
		}
	}
	for i, name := range names {
		names[i] = bold(name) + "(1)"
	}
	p.line(".SH SEE ALSO\n%s", strings.Join(names, ",\n"))
}

// roff are the characters that mean something else to it, or print as another.
var roff = strings.NewReplacer(`\`, `\e`, `-`, `\-`, `'`, `\(aq`, "`", `\(ga`, `^`, `\(ha`, `~`, `\(ti`, `"`, `\(dq`)

// escape makes text safe anywhere but at the start of a line.
func escape(text string) string { return roff.Replace(text) }

// escapeLines makes lines safe: a dot at the start would be a request.
func escapeLines(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		line = escape(line)
		if strings.HasPrefix(line, ".") {
			line = `\&` + line
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// verbatim is escapeLines without the indent that help texts have.
func verbatim(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimPrefix(line, "  ")
	}
	return escapeLines(strings.Join(lines, "\n"))
}

func bold(text string) string { return `\fB` + escape(text) + `\fR` }

func italic(text string) string {
	if text == "" {
		return ""
	}
	return `\fI` + escape(text) + `\fR`
}

// sentence makes one of a flag's usage.
func sentence(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + strings.TrimRight(text[1:], ".") + "."
}

func lowerFirst(text string) string {
	if len(text) < 2 || text[1] >= 'A' && text[1] <= 'Z' { // an abbreviation
		return text
	}
	return strings.ToLower(text[:1]) + text[1:]
}
