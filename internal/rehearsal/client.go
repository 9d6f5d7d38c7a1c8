package rehearsal

import (
	"context"
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
