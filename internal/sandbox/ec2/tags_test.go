package ec2

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

func tagList(pairs ...string) []types.Tag {
	var list []types.Tag
	for n := 0; n < len(pairs); n += 2 {
		list = append(list, types.Tag{Key: &pairs[n], Value: &pairs[n+1]})
	}
	return list
}

func TestTagsComeAndGo(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	snapshot := *w.describeImage(image).BlockDeviceMappings[0].Ebs.SnapshotId
	if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{image, snapshot}, Tags: tagList("Name", "hello", "Stage", "test", "Empty", "")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{image}, Tags: tagList("Name", "other")}); err != nil {
		t.Fatal(err)
	}
	if got := w.describeImage(image).Tags; tagOf(got, "Name") != "other" || tagOf(got, "Empty") != "" {
		t.Errorf("the image's tags are %v", got)
	}
	if _, err := w.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{image, snapshot}, Tags: []types.Tag{{Key: aws.String("Stage")}, {Key: aws.String("Name"), Value: aws.String("hello")}}}); err != nil {
		t.Fatal(err)
	}
	pages := ec2.NewDescribeTagsPaginator(w, &ec2.DescribeTagsInput{MaxResults: aws.Int32(5), Filters: []types.Filter{{Name: aws.String("resource-id"), Values: []string{image, snapshot}}}})
	var got []string
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Tags {
			got = append(got, fmt.Sprintf("%s %s=%s", d.ResourceType, *d.Key, *d.Value))
		}
	}
	if want := "image Empty=, image Name=other, snapshot Empty="; strings.Join(got, ", ") != want {
		t.Errorf("left are %v, want %s", got, want)
	}
}

func TestTagRules(t *testing.T) {
	w := newWorld(t)
	image := w.image("hello")
	var fifty []string
	for n := range 50 {
		fifty = append(fifty, fmt.Sprint("key", n), "v")
	}
	for name, test := range map[string]struct {
		resources []string
		tags      []types.Tag
		code      string
	}{
		"a reserved key":            {[]string{image}, tagList("aws:x", ""), "InvalidParameterValue"},
		"a reserved key in capital": {[]string{image}, tagList("AWS:x", ""), "InvalidParameterValue"},
		"a long key":                {[]string{image}, tagList(strings.Repeat("é", 129), ""), "InvalidParameterValue"},
		"a long value":              {[]string{image}, tagList("a", strings.Repeat("é", 257)), "InvalidParameterValue"},
		"an empty key":              {[]string{image}, tagList("", "a"), "InvalidParameterValue"},
		"a key twice":               {[]string{image}, tagList("a", "1", "a", "2"), "InvalidParameterValue"},
		"too many":                  {[]string{image}, tagList(append(fifty, "one", "more")...), "TagLimitExceeded"},
		"no such image":             {[]string{image, "ami-00000000000000000"}, tagList("a", "b"), "InvalidAMIID.NotFound"},
		"no such kind":              {[]string{"foo-123"}, tagList("a", "b"), "InvalidID"},
		"no tags":                   {[]string{image}, nil, "MissingParameter"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: test.resources, Tags: append([]types.Tag{}, test.tags...)})
			refused(t, err, test.code)
		})
	}
	if got := w.describeImage(image).Tags; len(got) > 0 {
		t.Errorf("refusals left the tags %v", got)
	}
	if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{image}, Tags: tagList(append(fifty, "key0", "again")[2:]...)}); err != nil {
		t.Errorf("fifty tags: %v", err)
	}
	_, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{image}, Tags: tagList("one", "more")})
	refused(t, err, "TagLimitExceeded")
	if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{image}, Tags: tagList("key1", strings.Repeat("é", 256))}); err != nil {
		t.Errorf("a value of 256 characters in place of another: %v", err)
	}
}

func TestTagsOfAnInstanceAndItsInterface(t *testing.T) {
	w := newWorld(t)
	in := single(w.image("hello"))
	in.MetadataOptions = &types.InstanceMetadataOptionsRequest{InstanceMetadataTags: types.InstanceMetadataTagsStateEnabled}
	in.TagSpecifications = []types.TagSpecification{specify(types.ResourceTypeInstance, "Name", "hello"), specify(types.ResourceTypeNetworkInterface, "Name", "its")}
	id := w.run(in)[0]
	if got, found := w.service.metadata("eu-west-1", id)("meta-data/tags/instance/Name"); !found || got != "hello" {
		t.Errorf("the metadata service says %q", got)
	}
	_, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{id}, Tags: tagList("Source/CommitId", "abc")})
	refused(t, err, "InvalidParameterValue")
	out, err := w.DescribeTags(t.Context(), &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("resource-type"), Values: []string{"network-interface"}}}})
	if err != nil || len(out.Tags) != 1 || *out.Tags[0].Value != "its" {
		t.Errorf("the interface's tags are %v, %v", out, err)
	}
}

func TestMatches(t *testing.T) {
	for _, test := range []struct {
		pattern, value string
		want           bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"*", "abc", true}, {"a*c", "abbc", true}, {"a*c", "abcd", false},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"*a*b*", "xxaxxbxx", true}, {"*a*b*", "xxbxxaxx", false},
		{`a\*`, "a*", true}, {`a\*`, "ab", false}, {`a\?`, "a?", true}, {`a\\b`, `a\b`, true}, {"abc", "ABC", false},
		{strings.Repeat("*a", 20) + "b", strings.Repeat("a", 200), false},
	} {
		if got := matches(test.pattern, test.value); got != test.want {
			t.Errorf("matches(%q, %q) = %v", test.pattern, test.value, got)
		}
	}
}

func TestSharedResourcesCanBeTagged(t *testing.T) {
	w := newWorld(t)
	base := w.amazon("al2023")
	var snapshot string
	w.books.Read(func() { snapshot = *w.describedSnapshot(base) })
	if _, err := w.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{base, snapshot}, Tags: tagList("note", "mine")}); err != nil {
		t.Fatal(err)
	}
	if got := w.describeSnapshot(snapshot).Tags; tagOf(got, "note") != "mine" || tagOf(w.describeImage(base).Tags, "note") != "mine" {
		t.Errorf("the tags are %v", got)
	}
}
