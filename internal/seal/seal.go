package seal

//go:generate go run ./document ../../docs-partials/internal/seal/Items.mdx

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// frame is what all steps share. An error names the step.
const frame = `
set -eu
umask 022
step=start
trap 'status=$?; [ $status -eq 0 ] || echo "$step could not be cleaned" >&2' EXIT

booted=no
if [ -d /run/systemd/system ]; then booted=yes; fi

# Patterns that match nothing arrive as they are, and name nothing.
shred_files() {
  for path do
    if [ -f "$path" ] && [ ! -L "$path" ]; then shred -u -- "$path"; else rm -f -- "$path"; fi
  done
}
empty_files() {
  for path do
    if [ -f "$path" ] && [ -s "$path" ]; then : >"$path"; fi
  done
}
homes() {
  { cut -d: -f6 /etc/passwd; printf '%s\n' /root /home/*; } | sort -u
}
`

// Check refuses names that are of no item.
func Check(keep []string) []error {
	var errs []error
	for _, name := range keep {
		if !slices.ContainsFunc(Items, func(i Item) bool { return i.Name == name }) {
			errs = append(errs, fmt.Errorf("keep: %q is nothing that is cleaned; it can be %s", name, strings.Join(names(Items), ", ")))
		}
	}
	return errs
}

// Run cleans everything but what is to be kept, in one process: there may be
// no way back into the machine afterwards. Cleaning twice is as cleaning once.
func Run(ctx context.Context, m guest.Machine, keep []string) error {
	if _, err := guest.Script(ctx, m, script(keep)); err != nil {
		return fmt.Errorf("seal the machine: %w", err)
	}
	return nil
}

func script(keep []string) string {
	var text strings.Builder
	text.WriteString(frame)
	for _, item := range Items {
		if !slices.Contains(keep, item.Name) {
			item.write(&text)
		}
	}
	text.WriteString("\nsync\n")
	return text.String()
}

// write adds the item's step. The patterns are constants of Items, and not
// quoted, so that the shell expands them.
func (i Item) write(text *strings.Builder) {
	fmt.Fprintf(text, "\nstep=%s", i.Name)
	text.WriteString(i.First)
	if i.First == "" {
		text.WriteString("\n")
	}
	if len(i.Shred) > 0 {
		fmt.Fprintf(text, "shred_files %s\n", strings.Join(i.Shred, " "))
	}
	var everywhere, home []string
	for _, pattern := range i.Remove {
		if inHome, found := strings.CutPrefix(pattern, "~"); found {
			home = append(home, `"$home"`+inHome)
		} else {
			everywhere = append(everywhere, pattern)
		}
	}
	if len(everywhere) > 0 {
		fmt.Fprintf(text, "rm -rf -- %s\n", strings.Join(everywhere, " "))
	}
	if len(home) > 0 {
		fmt.Fprintf(text, "homes | while IFS= read -r home; do rm -rf -- %s; done\n", strings.Join(home, " "))
	}
	if len(i.Empty) > 0 {
		fmt.Fprintf(text, "empty_files %s\n", strings.Join(i.Empty, " "))
	}
}

func names(items []Item) []string {
	var all []string
	for _, i := range items {
		all = append(all, i.Name)
	}
	return all
}

// Document is the table of Items for the documentation.
func Document() string {
	var text strings.Builder
	text.WriteString("<!-- Code generated from internal/seal/items.go; DO NOT EDIT MANUALLY -->\n\n| item | what is done | why |\n|---|---|---|\n")
	for _, i := range Items {
		var done []string
		for _, kind := range []struct {
			verb  string
			paths []string
		}{{"shreds", i.Shred}, {"removes", i.Remove}, {"empties", i.Empty}} {
			if len(kind.paths) > 0 {
				done = append(done, kind.verb+" `"+strings.Join(kind.paths, "`, `")+"`")
			}
		}
		if i.Does != "" {
			done = append([]string{i.Does}, done...)
		}
		fmt.Fprintf(&text, "| `%s` | %s | %s |\n", i.Name, strings.Join(done, "; "), i.Why)
	}
	return text.String()
}
