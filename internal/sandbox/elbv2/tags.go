package elbv2

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// maxTags is how many tags a resource may have.
const maxTags = 50

// tags are the tags of a resource, by key.
type tags map[string]string

type tag struct {
	Key   string `wire:",,required"`
	Value string
}

// add adds tags to those of a new resource, for which a caller needs a
// permission of its own.
func (t *tags) add(c *api.Call, arn string, in []tag) error {
	if len(in) == 0 {
		return nil
	}
	c.Needs("elasticloadbalancing:AddTags", arn)
	return t.merge(in)
}

func (t *tags) merge(in []tag) error {
	merged := maps.Clone(*t)
	if merged == nil {
		merged = tags{}
	}
	given := map[string]bool{}
	for _, tag := range in {
		switch {
		case given[tag.Key]:
			return wire.Errorf("DuplicateTagKeys", "The tag key '%s' is given more than once", tag.Key)
		case tag.Key == "" || utf8.RuneCountInString(tag.Key) > 128 || utf8.RuneCountInString(tag.Value) > 256:
			return invalid("A tag's key has 1 to 128 characters and its value at most 256, which the tag '%s' has not", tag.Key)
		case strings.HasPrefix(strings.ToLower(tag.Key), "aws:"):
			return invalid("The tag '%s' is not valid: keys that begin with aws: are reserved", tag.Key)
		}
		given[tag.Key] = true
		merged[tag.Key] = tag.Value
	}
	if len(merged) > maxTags {
		return wire.Errorf("TooManyTags", "A resource can have at most %d tags", maxTags)
	}
	*t = merged
	return nil
}

// tagsOf finds the tags of a resource by its ARN.
func (r *region) tagsOf(arn string) (*tags, error) {
	kind := strings.Split(arn+":::::", ":")[5]
	switch kind, _, _ = strings.Cut(kind, "/"); kind {
	case "targetgroup":
		tg, err := r.targetGroup(arn)
		if err != nil {
			return nil, err
		}
		return &tg.Tags, nil
	case "listener-rule":
		u, _, err := r.rule(arn)
		if err != nil {
			return nil, err
		}
		return &u.Tags, nil
	case "listener":
		l, err := r.listener(arn)
		if err != nil {
			return nil, err
		}
		return &l.Tags, nil
	}
	lb, err := r.loadBalancer(arn)
	if err != nil {
		return nil, err
	}
	return &lb.Tags, nil
}

type addTagsInput struct {
	ResourceArns []string
	Tags         []tag
}

func (s *Service) addTags(_ context.Context, c *api.Call, in *addTagsInput) (*succeeded, error) {
	return s.eachTagged(c, in.ResourceArns, func(t *tags) error { return t.merge(in.Tags) })
}

type removeTagsInput struct {
	ResourceArns []string
	TagKeys      []string
}

func (s *Service) removeTags(_ context.Context, c *api.Call, in *removeTagsInput) (*succeeded, error) {
	return s.eachTagged(c, in.ResourceArns, func(t *tags) error {
		maps.DeleteFunc(*t, func(key, _ string) bool { return slices.Contains(in.TagKeys, key) })
		return nil
	})
}

func (s *Service) eachTagged(c *api.Call, arns []string, do func(*tags) error) (*succeeded, error) {
	c.On(arns...)
	var all []*tags
	for _, arn := range arns {
		t, err := s.in(c.Region).tagsOf(arn)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	for _, t := range all {
		if err := do(t); err != nil {
			return nil, err
		}
	}
	return &succeeded{}, nil
}

type describeTagsInput struct{ ResourceArns []string }

type describeTagsOutput struct{ TagDescriptions []tagDescription }

type tagDescription struct {
	ResourceArn string
	Tags        []tag
}

func (s *Service) describeTags(_ context.Context, c *api.Call, in *describeTagsInput) (*describeTagsOutput, error) {
	out := &describeTagsOutput{}
	for _, arn := range in.ResourceArns {
		t, err := s.in(c.Region).tagsOf(arn)
		if err != nil {
			return nil, err
		}
		d := tagDescription{ResourceArn: arn, Tags: []tag{}}
		for _, key := range slices.Sorted(maps.Keys(*t)) {
			d.Tags = append(d.Tags, tag{key, (*t)[key]})
		}
		out.TagDescriptions = append(out.TagDescriptions, d)
	}
	return out, nil
}
