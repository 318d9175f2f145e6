package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/internal/config"
	"github.com/mdmesh/mdmesh/supervisor"
)

// patience is how long a person who pressed Tab is made to wait.
const patience = 300 * time.Millisecond

// completeChildren offers the names of the children that are not named yet, their
// groups, and all. Where no supervisor answers in time there are none.
func (o *options) completeChildren(cmd *cobra.Command, args []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
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
	var names, groups []cobra.Completion
	for _, c := range children {
		names = append(names, cobra.CompletionWithDesc(c.Name, c.State))
		if group := c.Name; c.Group != group && !slices.Contains(groups, c.Group+":*") {
			groups = append(groups, c.Group+":*")
		}
	}
	all := append(append(names, groups...), "all")
	return slices.DeleteFunc(all, func(word cobra.Completion) bool { return slices.Contains(args, plain(word)) }), none
}
