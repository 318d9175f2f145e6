package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/supervisor"
)

// patience is how long a person who pressed Tab is made to wait.
const patience = 300 * time.Millisecond

// completeChildren offers the names of the children that are not named yet, their
// groups, and all. Where no supervisor answers in time there are none.
func (o *options) completeChildren(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	if config.Environment(cmd) != nil {
		return nil, none
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), patience)
	defer cancel()
	children, err := supervisor.Do(ctx, o.socket, supervisor.OpStatus)
	if err != nil {
		return nil, none
	}
	var words []cobra.Completion
	offer := func(word, text string) {
		if strings.HasPrefix(word, typed) && !slices.Contains(args, word) {
			words = append(words, cobra.CompletionWithDesc(word, text))
		}
	}
	var groups []string
	for _, c := range children {
		offer(c.Name, c.State)
		if entry, _, several := strings.Cut(c.Name, ":"); several && !slices.Contains(groups, entry) {
			groups = append(groups, entry)
		}
	}
	for _, group := range groups {
		offer(group+":*", "each of them")
	}
	if len(args) == 0 {
		offer("all", "every child")
	}
	return words, none
}
