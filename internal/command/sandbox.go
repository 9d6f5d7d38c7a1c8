package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime/debug"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/clock"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/fault"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/policy"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/scenario"
)

// sandboxFlags are the flags of the sandbox command.
type sandboxFlags struct {
	listen, state, baseDisk, regions    string
	machines, profile, callLog, readyAt string
	timeScale                           float64
	launchConfigurations                bool
	faults                              []fault.Rule
	seed                                uint64
	quotas                              bool
	scenario                            *scenario.Scenario
	policies                            policy.Set
}

// garbage is how much memory may be garbage, in percent of what is in use: half
// of what Go does by itself. The sandbox shares its machine with what it is there
// to test, and has time.
const garbage = 50

// Sandbox serves a local AWS until ctx ends.
func Sandbox(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags, code := parseSandboxFlags(args, stderr)
	if flags == nil {
		return code
	}
	debug.SetGCPercent(garbage)
	if err := flags.run(ctx, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "sandbox: %v\n", err)
		return 1
	}
	return 0
}

// parseSandboxFlags gives nil and an exit status when there is nothing to run.
func parseSandboxFlags(args []string, stderr io.Writer) (*sandboxFlags, int) {
	f := &sandboxFlags{policies: policy.Set{}}
	set := flag.NewFlagSet("packer-plugin-immutable sandbox", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.listen, "listen", "127.0.0.1:4566", "loopback `address` to listen on; port 0 picks a free one")
	set.StringVar(&f.state, "state", "", "`directory` of the state, which a second start goes on with (default: a temporary one)")
	set.StringVar(&f.baseDisk, "base-disk", "", "raw disk `file` that becomes the public Amazon Linux 2023 image (default: none)")
	set.StringVar(&f.regions, "regions", sandbox.DefaultRegion, "`regions` that have this image, separated by commas")
	set.StringVar(&f.machines, "machines", string(sandbox.Container), "what instances are: container or none, which are only states")
	set.StringVar(&f.profile, "profile", string(clock.Instant), "how long AWS's own transitions take: instant or typical")
	set.Float64Var(&f.timeScale, "time-scale", 1, "`factor` on all waiting, such as health check intervals and warm-up")
	set.BoolVar(&f.launchConfigurations, "launch-configurations", false, "let launch configurations be made, as in accounts from before 2024-10-01")
	set.StringVar(&f.callLog, "call-log", "", "`file` that gets every call as a line of JSON (default: none)")
	set.StringVar(&f.readyAt, "ready-file", "", "`file` that gets the sandbox's URL once it is ready (default: none)")
	set.Func("fault", "`rule` of which calls go wrong, such as 'ec2:*,kind=throttle,rate=0.2'; may be repeated, and the first that strikes decides", func(text string) error {
		rule, err := fault.Parse(text)
		f.faults = append(f.faults, rule)
		return err
	})
	set.Func("scenario", "`file` of what happens at given moments (default: nothing)", func(path string) (err error) {
		f.scenario, err = scenario.Read(path)
		return err
	})
	set.BoolVar(&f.quotas, "quotas", false, "limit how often operations may be called, as AWS does (default: in the profile typical)")
	set.Uint64Var(&f.seed, "seed", 1, "`number` that picks the calls which faults strike")
	set.Func("enforce-policy", "`[access-key=]file` with the IAM policy of the caller with this access key, or of every caller; may be repeated (default: everything is permitted)", f.policies.Read)
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, 0
		}
		return nil, 2
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["quotas"] {
		f.quotas = clock.Profile(f.profile) == clock.Typical
	}
	if given["base-disk"] && f.baseDisk == "" {
		fmt.Fprintln(stderr, `sandbox: --base-disk is empty; name a raw disk, such as the one that example/base/build prints, or leave it out`)
		return nil, 2
	}
	if set.NArg() > 0 {
		fmt.Fprintf(stderr, "sandbox: unexpected argument %q; it takes flags only\n", set.Arg(0))
		return nil, 2
	}
	return f, 0
}

func (f *sandboxFlags) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	options := sandbox.Options{
		Listen: f.listen, StateDir: f.state, BaseDisk: f.baseDisk, Regions: strings.Split(f.regions, ","),
		Machines: sandbox.Machines(f.machines), Profile: clock.Profile(f.profile), TimeScale: f.timeScale,
		LaunchConfigurations: f.launchConfigurations,
		Faults:               f.faults, Seed: f.seed, Rates: f.quotas, Scenario: f.scenario,
		Policies: f.policies,
		Report:   func(err error) { fmt.Fprintf(stderr, "sandbox: %v\n", err) },
	}
	if f.readyAt != "" {
		// Nobody may take an earlier sandbox's for this one's.
		if err := os.Remove(f.readyAt); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove the former ready file: %w", err)
		}
	}
	if f.callLog != "" {
		file, err := os.OpenFile(f.callLog, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("open the call log: %w", err)
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		options.CallLog = file
	}
	box, err := sandbox.Open(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, box.Close()) }()
	if err := f.announce(box.URL(), stdout); err != nil {
		return err
	}
	return box.Serve(ctx)
}

// announce says that the sandbox is ready, and how to address it. It listens
// already, so calls that come before it serves wait a moment.
func (f *sandboxFlags) announce(url string, stdout io.Writer) error {
	region, _, _ := strings.Cut(f.regions, ",")
	fmt.Fprintf(stdout, "sandbox ready on %s\n\n", url)
	fmt.Fprintf(stdout, "export AWS_ENDPOINT_URL=%s AWS_REGION=%s\n", url, region)
	fmt.Fprintf(stdout, "export AWS_ACCESS_KEY_ID=AKIAME AWS_SECRET_ACCESS_KEY=anything AWS_EC2_METADATA_DISABLED=true\n")
	if f.readyAt == "" {
		return nil
	}
	if err := os.WriteFile(f.readyAt+".new", []byte(url+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the ready file: %w", err)
	}
	if err := os.Rename(f.readyAt+".new", f.readyAt); err != nil {
		return fmt.Errorf("write the ready file: %w", err)
	}
	return nil
}
