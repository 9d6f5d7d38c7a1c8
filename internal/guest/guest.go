// Package guest is what is asked of a machine being baked: which system it is,
// its packages, its units, its files. It works over any way into the machine,
// and as any user who may become root.
package guest

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
)

// Machine is a way into a machine. All that it does is done as root.
type Machine interface {
	// Run runs a command and waits for its end. A command that ran is no
	// error, whatever its status.
	Run(ctx context.Context, c Command) (Result, error)
	// Upload writes a file, in place of one that may be there. The directory
	// must exist.
	Upload(ctx context.Context, path string, content io.Reader, mode fs.FileMode) error
}

// Command is a process to run in a machine.
type Command struct {
	// Argv is the program and its arguments. They arrive as they are: no
	// shell reads them on the way.
	Argv []string
	// Env is added to the machine's environment, as NAME=value.
	Env []string
	// Say, if it is given, is told each line of the command's output, of both
	// streams, as it comes.
	Say func(line string)
}

// Result is how a command ended.
type Result struct {
	Status         int
	Stdout, Stderr string
}

// C is the locale in which programs are run whose output is read.
const C = "LC_ALL=C"

// A StatusError says that a command failed.
type StatusError struct {
	Argv   []string
	Result Result
}

func (e *StatusError) Error() string {
	output := strings.TrimSpace(e.Result.Stderr)
	if output == "" {
		output = strings.TrimSpace(e.Result.Stdout)
	}
	text := fmt.Sprintf("%s ended with status %d", e.Argv[0], e.Result.Status)
	if output != "" {
		text += ": " + last(output, 20)
	}
	return text
}

// last is the last lines of a text: the reason is mostly there.
func last(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Output runs a command in the C locale and returns its standard output. A
// status other than zero is a *StatusError.
func Output(ctx context.Context, m Machine, argv ...string) (string, error) {
	result, err := m.Run(ctx, Command{Argv: argv, Env: []string{C}})
	if err != nil {
		return "", err
	}
	if result.Status != 0 {
		return "", &StatusError{Argv: argv, Result: result}
	}
	return result.Stdout, nil
}

// Script runs a script of constant text by the machine's /bin/sh; the
// arguments are its $1, $2 …, and the way to hand it anything that varies.
func Script(ctx context.Context, m Machine, text string, args ...string) (string, error) {
	return Output(ctx, m, append([]string{"sh", "-c", text, "sh"}, args...)...)
}

// Quote writes an argument vector as a line for a shell that gets exactly that
// vector back, for ways into a machine that know nothing but shell lines.
func Quote(argv ...string) string {
	quoted := make([]string, len(argv))
	for i, arg := range argv {
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " ")
}

func quote(arg string) string {
	plain := arg != "" && strings.IndexFunc(arg, func(r rune) bool {
		return !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:@_", r)
	}) < 0
	if plain {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
