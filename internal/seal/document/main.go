// Command document writes the table of what a seal cleans, for the docs.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/immutable-server/packer-plugin-immutable/internal/seal"
)

func main() {
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(seal.Document()), 0o644)
}
