// Package sweep finds and removes what builds have left behind in AWS: a
// process that is killed can clean up nothing.
//
// All that a run creates bears the tags cloud.TagRun and cloud.TagExpires from
// its creation, and what a run finishes loses the second. So whatever still
// bears it when its moment has passed belongs to nobody. Launch template
// versions can't be tagged; versions.go says how those are told.
package sweep

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/immutable-server/packer-plugin-immutable/internal/cloud"
)

// EC2 is satisfied by *ec2.Client.
type EC2 interface {
	finder
	remover
	templates
}

type finder interface {
	DescribeTags(context.Context, *ec2.DescribeTagsInput, ...func(*ec2.Options)) (*ec2.DescribeTagsOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...func(*ec2.Options)) (*ec2.DescribeInstancesOutput, error)
}

// Sweep looks through one region.
type Sweep struct {
	Region      string
	EC2         EC2
	AutoScaling AutoScaling
	// Now is the moment by which a resource must have expired.
	Now time.Time
	// Run, if it is not empty, is a run that is known to be dead: what it has
	// left is found before it expires, and nothing of other runs is.
	Run string
}

// Leftover is a resource that belongs to nobody.
type Leftover struct {
	Region  string    `json:"region"`
	Kind    string    `json:"kind"`           // as in EC2's tags, such as "snapshot", or Version
	ID      string    `json:"id"`             // of a version: template:number
	Name    string    `json:"name,omitempty"` // its tag Name, or what a version says of itself
	Run     string    `json:"run,omitempty"`
	Expires time.Time `json:"expires"`
	// Removed says that it is removed, and Kept why it could not be; both are
	// zero before.
	Removed bool   `json:"removed"`
	Kept    string `json:"kept,omitempty"`
}

func (l Leftover) String() string { return fmt.Sprintf("%s %s in %s", l.Kind, l.ID, l.Region) }

// Find lists what is left behind, in the order in which it can be removed.
func (s Sweep) Find(ctx context.Context) ([]Leftover, error) {
	found, err := s.tagged(ctx)
	if err != nil {
		return nil, err
	}
	versions, err := s.versions(ctx)
	if err != nil {
		return nil, err
	}
	found = append(found, versions...)
	slices.SortFunc(found, func(a, b Leftover) int {
		return cmp.Or(cmp.Compare(order(a.Kind), order(b.Kind)), cmp.Compare(a.ID, b.ID))
	})
	return found, nil
}

// tagged finds by the tags, of which one call gives those of all kinds. A kind
// that nobody here can remove is not listed either.
func (s Sweep) tagged(ctx context.Context) ([]Leftover, error) {
	byID, err := s.tags(ctx)
	if err != nil {
		return nil, err
	}
	var found []Leftover
	var instances []string
	for id, tags := range byID {
		expires, err := time.Parse(time.RFC3339, tags.values[cloud.TagExpires])
		run := tags.values[cloud.TagRun]
		if err != nil || run == "" || order(tags.kind) < 0 || !s.swept(run, expires) {
			continue
		}
		if tags.kind == Instance {
			instances = append(instances, id)
		}
		found = append(found, Leftover{Region: s.Region, Kind: tags.kind, ID: id, Name: tags.values["Name"], Run: run, Expires: expires})
	}
	gone, err := s.terminated(ctx, instances)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(found, func(l Leftover) bool { return gone[l.ID] }), nil
}

func (s Sweep) swept(run string, expires time.Time) bool {
	if s.Run != "" {
		return run == s.Run
	}
	return expires.Before(s.Now)
}

// tagging is what the tags of a resource say.
type tagging struct {
	kind   string
	values map[string]string
}

// tags gives all tags of the resources that bear TagExpires.
func (s Sweep) tags(ctx context.Context) (map[string]tagging, error) {
	var ids []string
	err := s.eachTag(ctx, "key", []string{cloud.TagExpires}, func(tag types.TagDescription) {
		ids = append(ids, aws.ToString(tag.ResourceId))
	})
	if err != nil {
		return nil, err
	}
	byID := map[string]tagging{}
	for some := range slices.Chunk(ids, mostValues) {
		err := s.eachTag(ctx, "resource-id", some, func(tag types.TagDescription) {
			id := aws.ToString(tag.ResourceId)
			if _, known := byID[id]; !known {
				byID[id] = tagging{kind: string(tag.ResourceType), values: map[string]string{}}
			}
			byID[id].values[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		})
		if err != nil {
			return nil, err
		}
	}
	return byID, nil
}

func (s Sweep) eachTag(ctx context.Context, filter string, values []string, do func(types.TagDescription)) error {
	pages := ec2.NewDescribeTagsPaginator(s.EC2, &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: &filter, Values: values}}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("list the tags in %s (ec2:DescribeTags): %w", s.Region, err)
		}
		for _, tag := range page.Tags {
			do(tag)
		}
	}
	return nil
}

// terminated tells which instances are no more: they keep their tags for an
// hour.
func (s Sweep) terminated(ctx context.Context, ids []string) (map[string]bool, error) {
	gone := map[string]bool{}
	for some := range slices.Chunk(ids, mostValues) {
		states, err := s.states(ctx, some)
		if err != nil {
			return nil, err
		}
		for _, id := range some {
			state, there := states[id]
			gone[id] = !there || state == types.InstanceStateNameTerminated
		}
	}
	return gone, nil
}

// mostValues is EC2's limit on the values of one filter.
const mostValues = 200

// states asks by a filter, because an instance that is forgotten meanwhile is
// no error.
func (s Sweep) states(ctx context.Context, ids []string) (map[string]types.InstanceStateName, error) {
	states := map[string]types.InstanceStateName{}
	pages := ec2.NewDescribeInstancesPaginator(s.EC2, &ec2.DescribeInstancesInput{
		Filters: []types.Filter{{Name: aws.String("instance-id"), Values: ids}},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, fmt.Errorf("look up instances in %s (ec2:DescribeInstances): %w", s.Region, err)
		}
		for _, reservation := range page.Reservations {
			for _, instance := range reservation.Instances {
				states[aws.ToString(instance.InstanceId)] = instance.State.Name
			}
		}
	}
	return states, nil
}
