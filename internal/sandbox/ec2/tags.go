package ec2

import (
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/api"
)

// The limits of tags (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions).
// Keys that AWS sets, aws:, do not count towards the fifty.
const (
	maxTags        = 50
	maxTagKey      = 128
	maxTagValue    = 256
	reservedPrefix = "aws:"
)

// tags are the tags of a resource.
type tags map[string]string

// tag is a tag on the wire, where one without a value has an empty one.
type tag struct {
	Key   string
	Value *string
}

// tagSpecification says which tags a resource bears from its creation.
type tagSpecification struct {
	ResourceType string
	Tags         []tag `wire:"Tag,tagSet"`
}

func (t tags) keys() []string { return slices.Sorted(maps.Keys(t)) }

func (t tags) wire() []tag {
	var list []tag
	for _, key := range t.keys() {
		list = append(list, tag{key, new(t[key])})
	}
	return list
}

// tagMap is the opposite of wire.
func tagMap(list []tag) tags {
	t := make(tags, len(list))
	for _, one := range list {
		t[one.Key] = *one.Value
	}
	return t
}

// own leaves out the keys that AWS sets.
func (t tags) own() tags {
	own := maps.Clone(t)
	maps.DeleteFunc(own, func(key, _ string) bool { return strings.HasPrefix(key, reservedPrefix) })
	return own
}

// with gives the tags that a resource has once more are put on it.
func (t tags) with(more tags) (tags, error) {
	all := tags{}
	maps.Copy(all, t)
	maps.Copy(all, more)
	if len(all.own()) > maxTags {
		return nil, errTooManyTags
	}
	return all, nil
}

var errTooManyTags = fail("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.")

func errReservedKey(key string) error {
	return fail("InvalidParameterValue", "Value ( %s ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for internal use", key)
}

func reserved(key string) bool { return strings.HasPrefix(strings.ToLower(key), reservedPrefix) }

// newTags checks tags that a caller gave.
func newTags(list []tag) (tags, error) {
	checked := make(tags, len(list))
	for _, t := range list {
		value := orZero(t.Value)
		switch {
		case t.Key == "":
			return nil, fail("InvalidParameterValue", "Tag key cannot be null or empty.")
		case utf8.RuneCountInString(t.Key) > maxTagKey:
			return nil, fail("InvalidParameterValue", "Tag key exceeds the maximum length of %d characters", maxTagKey)
		case reserved(t.Key):
			return nil, errReservedKey(t.Key)
		case utf8.RuneCountInString(value) > maxTagValue:
			return nil, fail("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters", maxTagValue)
		}
		if _, twice := checked[t.Key]; twice {
			return nil, fail("InvalidParameterValue", "Duplicate tag key '%s' specified.", t.Key)
		}
		checked[t.Key] = value
	}
	if len(checked) > maxTags {
		return nil, errTooManyTags
	}
	return checked, nil
}

// specified gives the tags for each resource type that a request creates;
// taggable lists the types that the operation allows.
func specified(specifications []tagSpecification, taggable ...string) (map[string]tags, error) {
	byType := map[string]tags{}
	for _, specification := range specifications {
		kind := specification.ResourceType
		if kind == "" {
			return nil, fail("MissingParameter", "Tag specification resource type must have a value")
		}
		if !slices.Contains(taggable, kind) {
			return nil, fail("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", kind)
		}
		if _, twice := byType[kind]; twice {
			return nil, fail("InvalidParameterValue", "Duplicate resource type '%s' in the tag specifications", kind)
		}
		if len(specification.Tags) == 0 {
			return nil, fail("MissingParameter", "Tag specification must have at least one tag")
		}
		checked, err := newTags(specification.Tags)
		if err != nil {
			return nil, err
		}
		byType[kind] = checked
	}
	return byType, nil
}

type createTagsInput struct {
	Resources []string `wire:"ResourceId,,required"`
	Tags      []tag    `wire:"Tag,,required"`
}

// maxTaggedResources is how many resources one call may tag.
const maxTaggedResources = 1000

func (r *region) createTags(c *api.Call, in *createTagsInput) (*succeeded, error) {
	more, err := newTags(in.Tags)
	if err != nil {
		return nil, err
	}
	tagged, err := r.taggable(c, in.Resources)
	if err != nil {
		return nil, err
	}
	for _, bearer := range tagged {
		if _, err := bearer.Tags.with(more); err != nil {
			return nil, err
		}
		if i := r.Instances[bearer.Id]; i != nil {
			if err := more.fitMetadata(i.Metadata); err != nil {
				return nil, err
			}
		}
	}
	r.retag(tagged, func(had tags) { maps.Copy(had, more) })
	return &succeeded{true}, nil
}

// deleteTagsInput removes a tag without a value whatever its value, one with a
// value only when it is the same. No tags at all means all that AWS did not set.
type deleteTagsInput struct {
	Resources []string `wire:"ResourceId,,required"`
	Tags      []tag    `wire:"Tag"`
}

func (r *region) deleteTags(c *api.Call, in *deleteTagsInput) (*succeeded, error) {
	for _, t := range in.Tags {
		if reserved(t.Key) {
			return nil, errReservedKey(t.Key)
		}
	}
	tagged, err := r.taggable(c, in.Resources)
	if err != nil {
		return nil, err
	}
	r.retag(tagged, func(had tags) {
		if len(in.Tags) == 0 {
			maps.DeleteFunc(had, func(key, _ string) bool { return !reserved(key) })
		}
		for _, t := range in.Tags {
			if value, has := had[t.Key]; has && (t.Value == nil || *t.Value == value) {
				delete(had, t.Key)
			}
		}
	})
	return &succeeded{true}, nil
}

// retag changes the tags of resources: at once, unless the change is seen
// late, or an earlier one is, which must not overtake it.
func (r *region) retag(bearers []*resource, change func(tags)) {
	for _, bearer := range bearers {
		id, at := bearer.Id, r.visibleAt
		waiting := r.service.retagging[id]
		if len(waiting) > 0 && waiting[len(waiting)-1].at.After(at) {
			at = waiting[len(waiting)-1].at
		}
		if at.IsZero() {
			change(bearer.Tags)
			continue
		}
		r.service.retagging[id] = append(waiting, retagging{r.name, at, change})
		r.service.later(time.Until(at), r, func(r *region) { r.retagNext(id) })
	}
}

// retagging is a change of tags that is seen late.
type retagging struct {
	region string
	at     time.Time
	change func(tags)
}

// retagAll carries out all changes that wait, because nobody would later. The
// books must be held.
func (s *Service) retagAll() {
	for id, waiting := range s.retagging {
		for _, next := range waiting {
			s.in(next.region).retagNext(id)
		}
	}
}

// retagNext carries out the change of a resource's tags that has waited longest.
func (r *region) retagNext(id string) {
	waiting := r.service.retagging[id]
	if len(waiting) == 0 {
		return // the sandbox is ending, and has carried all of them out
	}
	for bearer := range r.resources() {
		if bearer.Id == id {
			waiting[0].change(bearer.Tags)
		}
	}
	if r.service.retagging[id] = waiting[1:]; len(waiting) == 1 {
		delete(r.service.retagging, id)
	}
}

// taggable finds the resources of the ids, all of them or none.
func (r *region) taggable(c *api.Call, ids []string) ([]*resource, error) {
	if len(ids) > maxTaggedResources {
		return nil, fail("InvalidParameterValue", "The maximum number of resources in one call is %d", maxTaggedResources)
	}
	found := make([]*resource, 0, len(ids))
	for _, id := range ids {
		one, err := r.resource(id)
		if err != nil {
			return nil, err
		}
		c.On(r.arn(one.kind(), id))
		found = append(found, one)
	}
	return found, nil
}

// tagDescription is a tag together with the resource that bears it.
type tagDescription struct {
	Key          string
	ResourceId   string
	ResourceType string
	Value        *string

	place string
}

type describeTagsInput struct {
	paging
	Filters []filter `wire:"Filter"`
}

type describeTagsOutput struct {
	Tags      []tagDescription `wire:",tagSet"`
	NextToken string
}

var tagFilters = filterable[tagDescription]{values: map[string]func(tagDescription) []string{
	"key":           func(t tagDescription) []string { return []string{t.Key} },
	"resource-id":   func(t tagDescription) []string { return []string{t.ResourceId} },
	"resource-type": func(t tagDescription) []string { return []string{t.ResourceType} },
	"value":         func(t tagDescription) []string { return []string{*t.Value} },
}}

func (r *region) describeTags(_ *api.Call, in *describeTagsInput) (*describeTagsOutput, error) {
	var all []tagDescription
	for bearer := range r.resources() {
		if bearer.unseen() {
			continue
		}
		for _, t := range bearer.Tags.wire() {
			all = append(all, tagDescription{
				Key: t.Key, Value: t.Value, ResourceId: bearer.Id, ResourceType: bearer.kind(),
				place: bearer.place() + " " + t.Key,
			})
		}
	}
	slices.SortFunc(all, func(a, b tagDescription) int { return strings.Compare(a.place, b.place) })
	kept, err := tagFilters.keep(all, in.Filters)
	if err != nil {
		return nil, err
	}
	kept, next, err := cut(kept, in.paging, pageRange{5, 1000}, func(t tagDescription) string { return t.place })
	if err != nil {
		return nil, err
	}
	return &describeTagsOutput{kept, next}, nil
}

// tagOnCreate notes that the caller of an operation that creates must also be
// permitted to tag what it creates, where it does.
func (r *region) tagOnCreate(c *api.Call, byType map[string]tags) { needs(c, r.tagging(byType)) }
