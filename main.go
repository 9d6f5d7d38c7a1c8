// Command packer-plugin-immutable is the Packer plugin for immutable servers
// on AWS, and the toolkit around it: Packer starts it as a plugin, people call
// its commands.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/hashicorp/packer-plugin-sdk/plugin"

	"github.com/immutable-server/packer-plugin-immutable/builder/direct"
	"github.com/immutable-server/packer-plugin-immutable/builder/disk"
	"github.com/immutable-server/packer-plugin-immutable/builder/existing"
	"github.com/immutable-server/packer-plugin-immutable/builder/instance"
	"github.com/immutable-server/packer-plugin-immutable/datasource/base"
	"github.com/immutable-server/packer-plugin-immutable/datasource/commit"
	"github.com/immutable-server/packer-plugin-immutable/internal/command"
	"github.com/immutable-server/packer-plugin-immutable/post-processor/rollout"
	"github.com/immutable-server/packer-plugin-immutable/post-processor/tag"
	"github.com/immutable-server/packer-plugin-immutable/provisioner/rpm"
	"github.com/immutable-server/packer-plugin-immutable/provisioner/seal"
	"github.com/immutable-server/packer-plugin-immutable/version"
)

func main() {
	if len(os.Args) > 1 {
		if run, ok := command.Find(os.Args[1]); ok {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			code := run(ctx, os.Args[2:], os.Stdout, os.Stderr)
			stop()
			os.Exit(code)
		}
	}

	set := plugin.NewSet()
	set.RegisterBuilder("direct", new(direct.Builder))
	set.RegisterBuilder("disk", new(disk.Builder))
	set.RegisterBuilder("instance", new(instance.Builder))
	set.RegisterBuilder("existing", new(existing.Builder))
	set.RegisterProvisioner("rpm", new(rpm.Provisioner))
	set.RegisterProvisioner("seal", new(seal.Provisioner))
	set.RegisterPostProcessor("tag", new(tag.PostProcessor))
	set.RegisterPostProcessor("rollout", new(rollout.PostProcessor))
	set.RegisterDatasource("base", new(base.Datasource))
	set.RegisterDatasource("commit", new(commit.Datasource))
	set.SetVersion(version.Plugin)
	if err := set.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
