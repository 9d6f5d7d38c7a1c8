package rehearsal

import (
	"context"
	"fmt"
	"os/exec"
)

// Client is a command of this machine that speaks to a sandbox: a client of
// AWS's that others wrote. It has the stage's environment, and nothing of the
// caller's AWS settings.
func (s *Stage) Client(ctx context.Context, box *Sandbox, argv ...string) *exec.Cmd {
	client := exec.CommandContext(ctx, argv[0], argv[1:]...)
	client.Env = append(s.environ(box.Environ("AKIACLIENT")...),
		"AWS_DEFAULT_REGION="+Region, // botocore reads this one only
		"AWS_PAGER=",
	)
	return client
}

// InstallOther installs the binary of another's plugin where packer looks for
// it, under the address that templates require it by.
func (s *Stage) InstallOther(ctx context.Context, binary, source string) error {
	output, err := s.Packer(ctx, Packer{Args: []string{"plugins", "install", "--path", binary, source}})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}
