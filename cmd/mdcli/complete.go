package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mdmesh/mdmesh/client"
	"github.com/mdmesh/mdmesh/internal/cli"
	"github.com/mdmesh/mdmesh/internal/config"
)

// patience is how long a person who pressed Tab is made to wait for names.
const patience = 300 * time.Millisecond

// completeNames offers what is below key in the broker's answer to question, such
// as the "name" of each row of "mmi.services". Where no broker answers in time there
// is nothing to offer, and nothing is said.
func (o *options) completeNames(question, key string) cli.Completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		const none = cobra.ShellCompDirectiveNoFileComp
		if config.Apply(cmd, "") != nil { // nobody did before: see package cli
			return nil, none
		}
		rows, err := o.askQuickly(cmd.Context(), question)
		if err != nil {
			return nil, none
		}
		var found []cobra.Completion
		for _, row := range rows {
			for _, word := range wordsOf(row[key]) {
				if completable(word) && strings.HasPrefix(word, typed) && !slices.Contains(args, word) && !slices.Contains(found, word) {
					found = append(found, word)
				}
			}
		}
		return found, none
	}
}

// askQuickly is one listing, asked for within patience, without a word of talk.
func (o *options) askQuickly(ctx context.Context, question string) ([]map[string]any, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := client.New(client.Config{Brokers: once(o.brokers.List), Timeout: patience})
	if err != nil {
		return nil, err
	}
	go func() { <-ctx.Done(); c.Close() }() // a broker that hangs must not keep the shell waiting
	reply, err := c.Call(ctx, question)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", question, err)
	}
	return decode(reply)
}

// once drops what is there before: flags are read twice for completions, so each
// endpoint comes twice.
func once(list []string) (out []string) {
	for _, word := range list {
		if !slices.Contains(out, word) {
			out = append(out, word)
		}
	}
	return out
}

// wordsOf are the texts in a value of a listing.
func wordsOf(v any) (words []string) {
	switch v := v.(type) {
	case string:
		words = append(words, v)
	case []any:
		for _, e := range v {
			words = append(words, wordsOf(e)...)
		}
	}
	return words
}

// completable refuses what the shells' line protocol would take for something else.
func completable(word string) bool {
	return word != "" && !strings.HasPrefix(word, "-") && !strings.ContainsAny(word, "\t\n\r\x00")
}

// firstArgument completes only the first argument.
func firstArgument(complete cli.Completer) cli.Completer {
	return func(cmd *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return complete(cmd, args, typed)
	}
}
