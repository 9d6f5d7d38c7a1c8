package autoscaling

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/autoscaling/group"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// maxTags is how many tags a group may have.
const maxTags = 50

type tag struct {
	Key               string `wire:",,required"`
	Value             *string
	PropagateAtLaunch *bool
	ResourceId        string
	ResourceType      string
}

type tagDescription struct {
	ResourceId        string
	ResourceType      string
	Key               string
	Value             *string
	PropagateAtLaunch bool
}

const resourceType = "auto-scaling-group"

type tagsInput struct{ Tags []tag }

func (s *Service) createOrUpdateTags(_ context.Context, c *api.Call, in *tagsInput) (*succeeded, error) {
	return s.eachTagged(c, in, func(g *group.Group, t tag) error { return setTags(g, []tag{t}) })
}

func (s *Service) deleteTags(_ context.Context, c *api.Call, in *tagsInput) (*succeeded, error) {
	return s.eachTagged(c, in, func(g *group.Group, t tag) error {
		g.Tags = slices.DeleteFunc(g.Tags, func(have group.Tag) bool {
			return have.Key == t.Key && (t.Value == nil || have.Value == *t.Value)
		})
		return nil
	})
}

// eachTagged finds the group of each tag, all of them before it changes one.
func (s *Service) eachTagged(c *api.Call, in *tagsInput, do func(*group.Group, tag) error) (*succeeded, error) {
	groups := make([]*group.Group, len(in.Tags))
	for i, t := range in.Tags {
		if t.ResourceType != resourceType {
			return nil, invalid("The resource type of a tag must be %s, and is '%s'", resourceType, t.ResourceType)
		}
		_, g, err := s.find(c, t.ResourceId)
		if err != nil {
			return nil, err
		}
		groups[i] = g
	}
	for i, t := range in.Tags {
		if err := do(groups[i], t); err != nil {
			return nil, err
		}
	}
	return &succeeded{}, nil
}

// setTags adds tags to a group, or changes them.
func setTags(g *group.Group, tags []tag) error {
	for _, t := range tags {
		value := ""
		set(&value, t.Value)
		if n := utf8.RuneCountInString(t.Key); n == 0 || n > 128 || utf8.RuneCountInString(value) > 256 {
			return invalid("A tag's key has 1 to 128 characters and its value at most 256, which the tag '%s' has not", t.Key)
		}
		if strings.HasPrefix(strings.ToLower(t.Key), "aws:") {
			return invalid("The tag '%s' is not valid: keys that begin with aws: are reserved", t.Key)
		}
		if t.ResourceId != "" && t.ResourceId != g.Name {
			return invalid("The tag '%s' is for '%s', not for the group '%s'", t.Key, t.ResourceId, g.Name)
		}
		changed := group.Tag{Key: t.Key, Value: value, Propagate: t.PropagateAtLaunch != nil && *t.PropagateAtLaunch}
		if i := slices.IndexFunc(g.Tags, func(have group.Tag) bool { return have.Key == t.Key }); i >= 0 {
			g.Tags[i] = changed
			continue
		}
		if len(g.Tags) == maxTags {
			return wire.Errorf("LimitExceeded", "The group '%s' can have at most %d tags", g.Name, maxTags)
		}
		g.Tags = append(g.Tags, changed)
	}
	return nil
}

type describeTagsInput struct {
	paging
	Filters []filter
}

type describeTagsOutput struct {
	Tags      []tagDescription
	NextToken string
}

func (s *Service) describeTags(_ context.Context, c *api.Call, in *describeTagsInput) (*describeTagsOutput, error) {
	if err := checkFilters(in.Filters, "auto-scaling-group", "key", "value", "propagate-at-launch"); err != nil {
		return nil, err
	}
	var all []tagDescription
	for _, g := range s.in(c.Region).Groups {
		for _, t := range describeTagsOf(g) {
			if tagPasses(t, in.Filters) {
				all = append(all, t)
			}
		}
	}
	key := func(t tagDescription) string { return t.ResourceId + "\x00" + t.Key }
	slices.SortFunc(all, func(a, b tagDescription) int { return cmp.Compare(key(a), key(b)) })
	all, token, err := cut(all, in.paging, 50, 100, key)
	if err != nil {
		return nil, err
	}
	return &describeTagsOutput{all, token}, nil
}

// checkFilters refuses filters that an operation does not have. It has tag:<key>
// for any key.
func checkFilters(filters []filter, allowed ...string) error {
	for _, f := range filters {
		name := f.Name
		if strings.HasPrefix(name, "tag:") {
			name = "tag:<key>"
		}
		if !slices.Contains(allowed, name) {
			return invalid("Filter type %s is not correct. Allowed Filter types are: %s", f.Name, strings.Join(allowed, " "))
		}
	}
	return nil
}

func tagPasses(t tagDescription, filters []filter) bool {
	passes := true
	for _, f := range filters {
		var value string
		switch f.Name {
		case "auto-scaling-group":
			value = t.ResourceId
		case "key":
			value = t.Key
		case "value":
			value = *t.Value
		case "propagate-at-launch":
			value = map[bool]string{true: "true", false: "false"}[t.PropagateAtLaunch]
		}
		passes = passes && slices.Contains(f.Values, value)
	}
	return passes
}

// tagged is whether a group passes the filters of DescribeAutoScalingGroups.
func tagged(g *group.Group, filters []filter) bool {
	passes := true
	for _, f := range filters {
		key, byTag := strings.CutPrefix(f.Name, "tag:")
		passes = passes && slices.ContainsFunc(g.Tags, func(t group.Tag) bool {
			switch {
			case byTag:
				return t.Key == key && slices.Contains(f.Values, t.Value)
			case f.Name == "tag-key":
				return slices.Contains(f.Values, t.Key)
			}
			return slices.Contains(f.Values, t.Value)
		})
	}
	return passes
}

func describeTagsOf(g *group.Group) []tagDescription {
	out := make([]tagDescription, len(g.Tags))
	for i, t := range g.Tags {
		out[i] = tagDescription{g.Name, resourceType, t.Key, new(t.Value), t.Propagate}
	}
	return out
}
