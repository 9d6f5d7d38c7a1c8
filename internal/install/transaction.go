package install

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/guest"
)

// scriptletFailed matches how rpm, dnf and yum report a scriptlet that failed.
// Only %pre stops a package from being installed; after the others a package
// manager goes on and ends with status 0.
var scriptletFailed = regexp.MustCompile(`scriptlet failed, (?:exit status|signal) \d+|^(?:Error|Non-fatal|Fatal) .*\bscriptlet\b.* in rpm package `)

// command is the package manager with everything that holds for all that it is
// asked to do: it asks nothing, and what it can't find is an error.
func (p *Plan) command(manager guest.Manager, args ...string) []string {
	argv := []string{string(manager), "-y"}
	if manager == guest.Yum {
		argv = append(argv, "--setopt=skip_missing_names_on_install=0", "--setopt=skip_missing_names_on_update=0")
	} else {
		argv = append(argv, "--setopt=strict=1")
	}
	if p.RequireSignature {
		argv = append(argv, "--setopt=gpgcheck=1", "--setopt=*.gpgcheck=1")
	}
	if p.ReleaseVersion != "" {
		argv = append(argv, "--releasever="+p.ReleaseVersion)
	}
	return append(argv, args...)
}

// update is the command that updates the machine, nil if none is wanted. AL2's
// yum knows --security as dnf does.
func (p *Plan) update(manager guest.Manager) []string {
	switch p.Update {
	case UpdateSecurity:
		return p.command(manager, "upgrade", "--security")
	case UpdateAll:
		return p.command(manager, "upgrade")
	}
	return nil
}

// transact runs the package manager and passes its output on. It is an error
// if it fails, or if any scriptlet did.
func transact(ctx context.Context, m guest.Machine, argv []string, ui Ui) error {
	var lines, failed []string
	result, err := m.Run(ctx, guest.Command{
		Argv: argv,
		Env:  []string{guest.C},
		Say: func(line string) {
			ui.Say(line)
			lines = append(lines, line)
			if scriptletFailed.MatchString(line) {
				failed = append(failed, strings.TrimSpace(line))
			}
		},
	})
	if err != nil {
		return err
	}
	end := strings.Join(lines[max(0, len(lines)-20):], "\n")
	if len(failed) > 0 {
		return fmt.Errorf("a scriptlet failed: %s; its package is not in working order, so mend the scriptlet. The end of the output:\n%s", failed[0], end)
	}
	if result.Status != 0 {
		return fmt.Errorf("%s ended with status %d:\n%s", argv[0], result.Status, end)
	}
	return nil
}
