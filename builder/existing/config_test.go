package existing

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

type options = map[string]any

const someCommit = "0123456789abcdef0123456789abcdef01234567"

func TestPrepareNamesOptionValueAndRemedy(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	for name, test := range map[string]struct {
		options options
		wants   []string
	}{
		"nothing":                           {options{}, []string{"nothing says which AMI is meant; give ami_id, commit, tags"}},
		"two ways":                          {options{"ami_id": "ami-0123456789abcdef0", "current_of": "web"}, []string{"ami_id and current_of are given together; keep the one"}},
		"tags and a parameter":              {options{"tags": map[string]string{"a": "b"}, "ssm_parameter": "/web"}, []string{"commit or tags and ssm_parameter are given together"}},
		"current and previous":              {options{"current_of": "web", "previous_of": "web"}, []string{"current_of and previous_of are given together"}},
		"an ID that is none":                {options{"ami_id": "web"}, []string{`ami_id is "web", which is not the ID of an AMI; it looks like ami-`}},
		"a short commit":                    {options{"commit": "0123456"}, []string{`commit is "0123456"; give the full ID`, "git rev-parse HEAD"}},
		"a branch":                          {options{"commit": "main"}, []string{`commit is "main"; give the full ID`}},
		"a prefix without a commit":         {options{"tags": map[string]string{"a": "b"}, "prefix": "Git/"}, []string{"prefix is given without commit"}},
		"what narrows nothing":              {options{"current_of": "web", "owners": []string{"self"}, "architecture": "arm64", "most_recent": true, "prefix": "Git/"}, []string{"prefix is given without commit or tags", "owners is given without", "architecture is given without", "most_recent is given without commit or tags, which alone it narrows; take it out"}},
		"a tag that only AWS may write":     {options{"tags": map[string]string{"aws:x": "b"}}, []string{"tags", "aws:"}},
		"an architecture that is none":      {options{"commit": someCommit, "architecture": "riscv"}, []string{`architecture is "riscv"; it is x86_64 or arm64`}},
		"an owner that is none":             {options{"commit": someCommit, "owners": []string{"us"}}, []string{`owners has "us"; give self, or the 12 digits`}},
		"an unknown region":                 {options{"current_of": "web", "region": "eu-wset-1"}, []string{`region "eu-wset-1"`}},
		"an unknown region of several":      {options{"current_of": "web", "regions": []string{"eu-west-1", "eu-wset-1"}}, []string{`region "eu-wset-1"`}},
		"region and regions":                {options{"current_of": "web", "region": "eu-west-2", "regions": []string{"eu-west-1"}}, []string{"region and regions are given together; keep regions", `"eu-west-2"`}},
		"a region twice":                    {options{"current_of": "web", "regions": []string{"eu-west-1", "eu-west-1"}}, []string{`regions has "eu-west-1" twice; keep one`}},
		"one ID for several regions":        {options{"ami_id": "ami-0123456789abcdef0", "regions": []string{"eu-west-1", "eu-west-2"}}, []string{"ami_id is given with several regions", "use commit or tags"}},
		"a secret key alone":                {options{"current_of": "web", "secret_key": "hunter2hunter2"}, []string{"access_key and secret_key"}},
		"an option that there is not":       {options{"current_of": "web", "ami_name": "web"}, []string{"ami_name"}},
		"a template that there is no value": {options{"ami_id": "{{ .Nothing }}"}, []string{"ami_id"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := new(Builder).Prepare(test.options)
			for _, want := range test.wants {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("Prepare gave %v, want %q", err, want)
				}
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("the error gives a secret away")
			}
		})
	}
}

func TestPrepareFillsIn(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	var b Builder
	generated, warnings, err := b.Prepare(options{"commit": someCommit, "tags": map[string]string{"Stage": "tested"}})
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	if want := []string{"BuildRegion", "SourceAMI", "SourceAMIName"}; !slices.Equal(generated, want) {
		t.Errorf("post-processors know %v, want %v", generated, want)
	}
	if want := map[string]string{"Stage": "tested", "Source/CommitId": someCommit}; !maps.Equal(b.config.wanted(), want) {
		t.Errorf("looks for %v, want %v", b.config.wanted(), want)
	}
	if c := b.config; !slices.Equal(c.Owners, []string{"self"}) || len(c.accesses) != 1 || c.accesses[0].Region != "eu-west-1" {
		t.Errorf("prepared %+v", c)
	}
}
