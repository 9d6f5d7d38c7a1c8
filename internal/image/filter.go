package image

//go:generate go tool packer-sdc struct-markdown
//go:generate go tool packer-sdc mapstructure-to-hcl2 -type Filter

import (
	"encoding/csv"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Filter finds an AMI by what it is like:
//
// ```hcl
//
//	source_ami_filter {
//	  filters = {
//	    name         = "al2023-ami-2023.*-kernel-6.12-x86_64"
//	    architecture = "x86_64"
//	  }
//	  owners      = ["amazon"]
//	  most_recent = true
//	}
//
// ```
type Filter struct {
	// Filters as of EC2's [DescribeImages](https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeImages.html);
	// several values of one filter are separated by commas.
	Filters map[string]string `mapstructure:"filters" required:"false"`
	// Whose AMIs are considered: account IDs, `self`, or an alias of AWS's
	// such as `amazon`. Required, because anybody can publish an AMI under
	// any name.
	Owners []string `mapstructure:"owners" required:"true"`
	// Take the newest AMI where several match, rather than fail. Default
	// false.
	MostRecent bool `mapstructure:"most_recent" required:"false"`
	// Consider deprecated AMIs of other accounts too. Default false.
	IncludeDeprecated bool `mapstructure:"include_deprecated" required:"false"`
}

// Empty says that no filter was given.
func (f Filter) Empty() bool {
	return len(f.Filters) == 0 && len(f.Owners) == 0 && !f.MostRecent && !f.IncludeDeprecated
}

// Prepare checks the filter without a call to AWS.
func (f Filter) Prepare() []error {
	var errs []error
	if f.Empty() {
		return nil
	}
	if len(f.Owners) == 0 {
		errs = append(errs, fmt.Errorf("source_ami_filter has no owners; name the accounts whose AMIs are trusted, for example owners = [\"amazon\"]"))
	}
	if len(f.Filters) == 0 {
		errs = append(errs, fmt.Errorf("source_ami_filter has no filters; give at least a name, for example filters = { name = \"al2023-ami-2023.*-x86_64\" }"))
	}
	if _, err := f.request(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// request is the filter as EC2 wants it, in a stable order.
func (f Filter) request() ([]types.Filter, error) {
	var filters []types.Filter
	for _, name := range slices.Sorted(maps.Keys(f.Filters)) {
		// As in the amazon plugin: a value is a line of CSV, so that a value
		// with a comma in it can be quoted.
		r := csv.NewReader(strings.NewReader(f.Filters[name]))
		r.TrimLeadingSpace, r.LazyQuotes = true, true
		values, err := r.Read()
		if err != nil {
			return nil, fmt.Errorf("source_ami_filter: the filter %s = %q is no list of values: %w", name, f.Filters[name], err)
		}
		filters = append(filters, types.Filter{Name: new(name), Values: values})
	}
	return filters, nil
}
