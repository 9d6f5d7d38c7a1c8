package bake

import (
	"context"
	_ "embed"
	"fmt"
)

var (
	//go:embed lend.sh
	lendScript string
	//go:embed takeback.sh
	takeBackScript string
)

// loan is a file of the image that is replaced while it is baked.
type loan struct {
	path, content string
}

// aside is where the image's own file waits.
func (l loan) aside() string { return l.path + ".before-the-bake" }

// lend replaces a file by content until takeBack. Both run inside the image's
// root, so that its symbolic links lead nowhere else.
func (k *Baking) lend(ctx context.Context, path, content string) error {
	l := loan{path, content}
	if _, err := k.inRoot(ctx, content, "/bin/sh", "-c", lendScript, "lend", l.path, l.aside()); err != nil {
		return fmt.Errorf("put a temporary %s into the image: %w", path, err)
	}
	k.loans = append(k.loans, l)
	return nil
}

// takeBack puts every file that was lent back as it was.
func (k *Baking) takeBack(ctx context.Context) error {
	for _, l := range k.loans {
		if _, err := k.inRoot(ctx, l.content, "/bin/sh", "-c", takeBackScript, "takeback", l.path, l.aside()); err != nil {
			return fmt.Errorf("put the image's own %s back: %w", l.path, err)
		}
	}
	k.loans = nil
	return nil
}
