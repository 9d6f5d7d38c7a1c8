package command

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
	"github.com/immutable-server/packer-plugin-immutable/internal/sweep"
)

// sweepFlags are the flags of the sweep command.
type sweepFlags struct {
	regions      []cloud.Access
	profile, run string
	yes, json    bool
}

// Sweep lists what builds left behind, and removes it with --yes.
func Sweep(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags, code := parseSweepFlags(args, stderr)
	if flags == nil {
		return code
	}
	found, err := flags.sweep(ctx)
	if err := errors.Join(err, flags.print(stdout, found, err != nil)); err != nil {
		fmt.Fprintf(stderr, "sweep: %v\n", err)
		return 1
	}
	return 0
}

// parseSweepFlags gives nil and an exit status when there is nothing to run.
func parseSweepFlags(args []string, stderr io.Writer) (*sweepFlags, int) {
	f := new(sweepFlags)
	set := flag.NewFlagSet("packer-plugin-immutable sweep", flag.ContinueOnError)
	set.SetOutput(stderr)
	regions := set.String("region", "", "`regions` to look in, separated by commas (default: that of AWS_REGION or the profile)")
	set.StringVar(&f.profile, "profile", "", "`profile` of the AWS configuration files to use (default: that of AWS_PROFILE)")
	set.StringVar(&f.run, "run", "", "`id` of a run that is known to be dead: sweep what it left, expired or not, and nothing else")
	set.BoolVar(&f.yes, "yes", false, "remove what is found, in place of listing it")
	set.BoolVar(&f.json, "json", false, "print a JSON array in place of a table")
	if err := set.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, 0
		}
		return nil, 2
	}
	if set.NArg() > 0 {
		fmt.Fprintf(stderr, "sweep: unexpected argument %q; it takes flags only\n", set.Arg(0))
		return nil, 2
	}
	if errs := f.parseRegions(*regions); len(errs) > 0 {
		fmt.Fprintf(stderr, "sweep: %v\n", errors.Join(errs...))
		return nil, 2
	}
	return f, 0
}

// parseRegions takes a list apart; an empty one is the usual region.
func (f *sweepFlags) parseRegions(list string) []error {
	var errs []error
	for region := range strings.SplitSeq(list, ",") {
		access := cloud.Access{Region: strings.TrimSpace(region), Profile: f.profile}
		if access.Region == "" && list != "" {
			return []error{fmt.Errorf("--region is %q; give names such as eu-west-1, separated by commas", list)}
		}
		errs = append(errs, access.Prepare()...)
		if !slices.ContainsFunc(f.regions, func(a cloud.Access) bool { return a.Region == access.Region }) {
			f.regions = append(f.regions, access)
		}
	}
	return errs
}

// sweep goes through the regions one after the other. Where one fails the
// others are swept all the same.
func (f *sweepFlags) sweep(ctx context.Context) ([]sweep.Leftover, error) {
	var all []sweep.Leftover
	var errs []error
	for _, access := range f.regions {
		found, err := f.sweepRegion(ctx, access)
		all, errs = append(all, found...), append(errs, err)
	}
	return all, errors.Join(errs...)
}

func (f *sweepFlags) sweepRegion(ctx context.Context, access cloud.Access) ([]sweep.Leftover, error) {
	aws, err := access.Load(ctx)
	if err != nil {
		return nil, err
	}
	s := sweep.Sweep{
		Region: access.Region, Now: time.Now(), Run: f.run,
		EC2: ec2.NewFromConfig(aws), AutoScaling: autoscaling.NewFromConfig(aws),
	}
	found, err := s.Find(ctx)
	if err != nil || !f.yes {
		return found, err
	}
	return found, s.Remove(ctx, found)
}

// print prints what was found. Where something failed that may not be all.
func (f *sweepFlags) print(stdout io.Writer, found []sweep.Leftover, failed bool) error {
	if f.json {
		if found == nil {
			found = []sweep.Leftover{}
		}
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(found)
	}
	if len(found) == 0 && failed {
		return nil
	}
	if len(found) == 0 {
		_, err := fmt.Fprintln(stdout, "Nothing is left behind.")
		return err
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tKIND\tID\tNAME\tRUN\tEXPIRES\tSTATE")
	for _, l := range found {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Region, l.Kind, l.ID, l.Name, l.Run, l.Expires.UTC().Format(time.RFC3339), state(l))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if !f.yes {
		_, err := fmt.Fprintln(stdout, "\nNothing was removed. Give --yes to remove these.")
		return err
	}
	return nil
}

func state(l sweep.Leftover) string {
	switch {
	case l.Removed:
		return "removed"
	case l.Kept != "":
		return "kept: " + strings.ReplaceAll(l.Kept, "\n", "; ")
	}
	return "left behind"
}
