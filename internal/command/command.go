// Package command holds the commands of the plugin's binary that are for
// people rather than for Packer: their flags and what they print.
package command

import (
	"context"
	"io"
)

// Command runs with the arguments after its name until it is done or ctx ends,
// and gives the exit status: 0 for success, 1 for failure, 2 for wrong usage.
type Command func(ctx context.Context, args []string, stdout, stderr io.Writer) int

var commands = map[string]Command{
	"sandbox": Sandbox,
	"sweep":   Sweep,
}

// Find finds a command by its name.
func Find(name string) (Command, bool) {
	command, ok := commands[name]
	return command, ok
}
