package bake

import (
	"context"
	"fmt"
	"os"
	"path"
	"strings"
)

const resolvConf = "/etc/resolv.conf"

// resolver lets names be resolved inside as on the host.
type resolver struct {
	content string
	// runtime is the file under /run that the image's /etc/resolv.conf leads
	// to, where it does. It is written in the machine's own /run.
	runtime string
}

// prepareResolver reads the host's resolver configuration and, where the
// image's own is a file on the disk or absent, lends it that.
func (k *Baking) prepareResolver(ctx context.Context) error {
	content, err := os.ReadFile(resolvConf)
	if os.IsNotExist(err) {
		return nil // the host resolves nothing either
	}
	if err != nil {
		return fmt.Errorf("read the host's resolver configuration: %w", err)
	}
	end, err := k.inRoot(ctx, "", "readlink", "-m", resolvConf)
	if err != nil {
		return fmt.Errorf("find the image's %s: %w", resolvConf, err)
	}
	k.resolver.content = string(content)
	end = strings.TrimSuffix(end, "\n")
	if strings.HasPrefix(end, "/run/") {
		k.resolver.runtime = end
		return nil
	}
	return k.lend(ctx, resolvConf, string(content))
}

// finishResolver is called when the machine has its /run.
func (k *Baking) finishResolver(ctx context.Context) error {
	if k.resolver.runtime == "" {
		return nil
	}
	err := run(ctx, k.machine, k.resolver.content,
		"/bin/sh", "-c", `mkdir -p "$1" && cat >"$2"`, "sh", path.Dir(k.resolver.runtime), k.resolver.runtime)
	if err != nil {
		return fmt.Errorf("give the machine the host's resolver configuration: %w", err)
	}
	return nil
}
