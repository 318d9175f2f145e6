package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// Completer is what asks for the values of an argument or flag; it is called with
// what was typed so far, and must be quick: a person waits.
type Completer = cobra.CompletionFunc

// shells are those completion speaks for, and what writes each script.
var shells = map[string]func(cmd *cobra.Command) error{
	"bash": func(cmd *cobra.Command) error { return cmd.Root().GenBashCompletionV2(cmd.OutOrStdout(), true) },
	"zsh":  func(cmd *cobra.Command) error { return cmd.Root().GenZshCompletion(cmd.OutOrStdout()) },
	"fish": func(cmd *cobra.Command) error { return cmd.Root().GenFishCompletion(cmd.OutOrStdout(), true) },
}

// completionCommand prints a script that teaches a shell the program's commands,
// flags and live names.
func completionCommand(program string) *cobra.Command {
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script for completion in a shell",
		Long: strings.ReplaceAll(`completion prints a script that lets the Tab key complete commands, flags, values
and the names of what is there now. "make install" puts it where the shells find it.
Otherwise, for this shell only:

  source <(PROGRAM completion bash)
  source <(PROGRAM completion zsh)
  PROGRAM completion fish | source

and for all later ones:

  PROGRAM completion bash >~/.local/share/bash-completion/completions/PROGRAM
  PROGRAM completion zsh >"${fpath[1]}/_PROGRAM"
  PROGRAM completion fish >~/.config/fish/completions/PROGRAM.fish

bash needs its package bash-completion, zsh a line "autoload -U compinit; compinit"
in ~/.zshrc. Names are asked for with the flags typed so far and the environment
(--broker or MD_BROKER, --socket or MD_SOCKET); where nobody answers within 300 ms
there are none.

Exit codes: 0 ok; 64 wrong usage.`, "PROGRAM", program),
		Example:           "  source <(" + program + " completion bash)",
		ValidArgs:         []string{"bash", "zsh", "fish"},
		PersistentPreRunE: func(*cobra.Command, []string) error { return nil }, // a file of flags has no say
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || shells[args[0]] == nil {
				return Exitf(Usage, "which shell? name bash, zsh or fish")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := shells[args[0]](cmd); err != nil {
				return fmt.Errorf("write the script: %w", err)
			}
			return nil
		},
	}
}

// Values completes a flag of cmd with words.
func Values(cmd *cobra.Command, flag string, words ...string) {
	CompleteFlag(cmd, flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// CompleteFlag completes a flag of cmd by asking complete.
func CompleteFlag(cmd *cobra.Command, flag string, complete Completer) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // no such flag, or done twice: a mistake in the program
	}
}

// completeSharedFlags completes the flags that mean the same in all programs.
func completeSharedFlags(cmd *cobra.Command) {
	if f := cmd.PersistentFlags().Lookup("log-level"); f != nil {
		Values(cmd, "log-level", "trace", "debug", "info", "warn", "error", "off")
	}
	if f := cmd.Flag("config"); f != nil {
		CompleteFlag(cmd, "config", cobra.FixedCompletions([]string{"toml"}, cobra.ShellCompDirectiveFilterFileExt))
	}
}

// completing tells whether cmd is the one by which a shell asks for completions.
// What the program does before each command is not for it: a Completer reads the
// environment and the file itself, and nothing may be said.
func completing(cmd *cobra.Command) bool {
	return cmd.Name() == cobra.ShellCompRequestCmd || cmd.Name() == cobra.ShellCompNoDescRequestCmd
}

// Near returns the words that name may have meant, at most three: those a slip or
// two away, and those it begins.
func Near(name string, words []string) []string {
	type candidate struct {
		word string
		slip int
	}
	var found []candidate
	for _, word := range words {
		slip := distance(strings.ToLower(name), strings.ToLower(word))
		if begins := name != "" && strings.HasPrefix(strings.ToLower(word), strings.ToLower(name)); begins || slip <= min(2, len(name)/2) {
			found = append(found, candidate{word, slip})
		}
	}
	slices.SortStableFunc(found, func(a, b candidate) int { return a.slip - b.slip })
	var out []string
	for _, c := range found[:min(len(found), 3)] {
		out = append(out, c.word)
	}
	return out
}

// distance counts the octets to insert, remove, change or swap with the next to
// make b of a.
func distance(a, b string) int {
	const never = 1 << 20
	before, above := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change, swap := above[j-1], never
			if a[i-1] != b[j-1] {
				change++
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				swap = before[j-2] + 1
			}
			row[j] = min(above[j]+1, row[j-1]+1, change, swap)
		}
		before, above = above, row
	}
	return above[len(b)]
}
