// Package basedisk gives tests the base disk that example/base/build makes: an XFS root that looks like
// Amazon Linux 2023. It is built once and cached, so the first test that asks may wait two minutes.
package basedisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Path returns the path of the base disk, a raw image, building it when it is not in the cache.
// It is shared: copy it, never write to it. The test is skipped when testing.Short,
// and fails when the disk can't be built.
func Path(tb testing.TB) string {
	tb.Helper()
	if testing.Short() {
		tb.Skip("the base disk is not built in short mode")
	}
	path, err := Build(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return path
}

// Build returns the path of the base disk as Path does, for callers that are no tests.
// The working directory must be inside this repository. Building needs root and a Debian mirror.
func Build(ctx context.Context) (string, error) {
	script, err := script()
	if err != nil {
		return "", fmt.Errorf("build the base disk: %w", err)
	}
	command := exec.CommandContext(ctx, script)
	var progress bytes.Buffer
	command.Stderr = &progress
	path, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("build the base disk: %s: %w\n%s", script, err, progress.Bytes())
	}
	return strings.TrimSpace(string(path)), nil
}

// script finds example/base/build in the working directory or a folder above it.
func script() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		path := filepath.Join(dir, "example", "base", "build")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("example/base/build is not in a folder above the working directory; run inside the repository")
		}
		dir = above
	}
}
