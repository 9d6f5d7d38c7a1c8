package policy

import (
	"os"
	"strings"
	"testing"
)

func parse(t *testing.T, text string) *Document {
	t.Helper()
	d, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

const image, snapshot = "arn:aws:ec2:eu-west-1::image/ami-1", "arn:aws:ec2:eu-west-1::snapshot/snap-1"

func TestWhatIsPermitted(t *testing.T) {
	const allow = `{"Version": "2012-10-17", "Statement": `
	for name, test := range map[string]struct {
		policy, action, resource string
		refused                  string
	}{
		"an action on a resource":    {`{"Effect": "Allow", "Action": "ec2:RegisterImage", "Resource": "` + image + `"}`, "ec2:RegisterImage", image, ""},
		"another action":             {`{"Effect": "Allow", "Action": "ec2:RegisterImage", "Resource": "*"}`, "ec2:CopyImage", image, "no identity-based policy allows the ec2:CopyImage action"},
		"another resource":           {`{"Effect": "Allow", "Action": "ec2:RegisterImage", "Resource": "` + image + `"}`, "ec2:RegisterImage", snapshot, "no identity-based policy allows"},
		"lists":                      {`[{"Effect": "Allow", "Action": ["ec2:A", "ec2:B"], "Resource": ["` + snapshot + `", "` + image + `"]}]`, "ec2:B", image, ""},
		"cases of an action":         {`{"Effect": "Allow", "Action": "ec2:registerIMAGE", "Resource": "*"}`, "ec2:RegisterImage", image, ""},
		"cases of a resource":        {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ec2:eu-west-1::IMAGE/*"}`, "ec2:RegisterImage", image, "no identity-based policy allows"},
		"wildcards in an action":     {`{"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"}`, "ec2:DescribeImages", "*", ""},
		"one character":              {`{"Effect": "Allow", "Action": "ec2:DescribeImage?", "Resource": "*"}`, "ec2:DescribeImages", "*", ""},
		"wildcards in a resource":    {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ec2:*::image/ami-?"}`, "ec2:RegisterImage", image, ""},
		"a wildcard across colons":   {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:autoscaling:*:*:*/web"}`, "autoscaling:StartInstanceRefresh", "arn:aws:autoscaling:eu-west-1:123456789012:autoScalingGroup:0ab1:autoScalingGroupName/web", ""},
		"a resource that is to be":   {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ec2:*::image/*"}`, "ec2:RegisterImage", "arn:aws:ec2:eu-west-1::image/*", ""},
		"some resources, but all":    {`{"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ec2:*::image/*"}`, "ec2:DescribeImages", "*", "no identity-based policy allows"},
		"a deny beside an allow":     {`[{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "ec2:*", "Resource": "` + image + `"}]`, "ec2:RegisterImage", image, "explicit deny"},
		"a deny of another resource": {`[{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "ec2:*", "Resource": "` + image + `"}]`, "ec2:RegisterImage", snapshot, ""},
		"all but an action":          {`{"Effect": "Allow", "NotAction": "ec2:CopyImage", "Resource": "*"}`, "ec2:RegisterImage", image, ""},
		"not the action":             {`{"Effect": "Allow", "NotAction": ["ec2:CopyImage"], "Resource": "*"}`, "ec2:CopyImage", image, "no identity-based policy allows"},
		"all but a resource":         {`{"Effect": "Allow", "Action": "*", "NotResource": "` + image + `"}`, "ec2:CopyImage", snapshot, ""},
		"not the resource":           {`{"Effect": "Allow", "Action": "*", "NotResource": ["` + image + `"]}`, "ec2:CopyImage", image, "no identity-based policy allows"},
		"any resource at all":        {`{"Effect": "Allow", "Action": "*", "Resource": "` + image + `"}`, "ec2:CopyImage", "", ""},
		"any resource, some denied":  {`[{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "*", "Resource": "` + image + `"}]`, "ec2:CopyImage", "", ""},
		"any resource, all denied":   {`[{"Effect": "Allow", "Action": "*", "Resource": "*"}, {"Effect": "Deny", "Action": "*", "Resource": "*"}]`, "ec2:CopyImage", "", "explicit deny"},
	} {
		t.Run(name, func(t *testing.T) {
			set := Set{}
			set.Add("AKIA", parse(t, allow+test.policy+"}"))
			err := set.Enter("AKIA")(test.action, test.resource)
			if (err == nil) != (test.refused == "") || err != nil && !strings.Contains(err.Error(), test.refused) {
				t.Errorf("%s on %q: %v, want %q", test.action, test.resource, err, test.refused)
			}
		})
	}
}

func TestPoliciesAreThoseOfTheCallerAndOfEverybody(t *testing.T) {
	one := `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ec2:CopyImage", "Resource": "*"}}`
	set := Set{}
	set.Add("AKIA", parse(t, one))
	if set.Enter("AKIAOTHER") != nil {
		t.Error("a caller without a policy is restricted")
	}
	set.Add("", parse(t, strings.Replace(one, "Copy", "Register", 1)))
	for caller, want := range map[string]map[string]bool{
		"AKIA":      {"ec2:CopyImage": true, "ec2:RegisterImage": true, "ec2:CreateImage": false},
		"AKIAOTHER": {"ec2:CopyImage": false, "ec2:RegisterImage": true},
	} {
		for action, permitted := range want {
			if err := set.Enter(caller)(action, image); (err == nil) != permitted {
				t.Errorf("%s by %s: %v, want permitted %v", action, caller, err, permitted)
			}
		}
	}
}

func TestPoliciesThatAreRefused(t *testing.T) {
	statement := func(s string) string { return `{"Version": "2012-10-17", "Statement": [{` + s + `}]}` }
	for name, test := range map[string]struct{ policy, says string }{
		"not JSON":             {`{`, "EOF"},
		"a list":               {`[]`, "not a JSON object"},
		"two documents":        {`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}} {}`, "after the JSON object"},
		"no version":           {`{"Statement": []}`, "Version"},
		"the older version":    {`{"Version": "2008-10-17", "Statement": []}`, "2012-10-17"},
		"no statement":         {`{"Version": "2012-10-17"}`, "Statement"},
		"no statements":        {`{"Version": "2012-10-17", "Statement": []}`, "empty"},
		"an unknown element":   {`{"Version": "2012-10-17", "Statements": []}`, "Statements"},
		"a condition":          {statement(`"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}`), "statement 1: the sandbox does not know the element Condition"},
		"a principal":          {statement(`"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"`), "Principal"},
		"a misspelt element":   {statement(`"Effect": "Allow", "Actions": "*", "Resource": "*"`), "Actions"},
		"an element twice":     {statement(`"Effect": "Allow", "Action": "*", "Action": "ec2:A", "Resource": "*"`), "Action is there twice"},
		"no effect":            {statement(`"Action": "*", "Resource": "*"`), "Effect"},
		"another effect":       {statement(`"Effect": "allow", "Action": "*", "Resource": "*"`), "Allow or Deny"},
		"no action":            {statement(`"Effect": "Allow", "Resource": "*"`), "neither Action nor NotAction"},
		"both kinds of action": {statement(`"Effect": "Allow", "Action": "*", "NotAction": "*", "Resource": "*"`), "both Action and NotAction"},
		"no actions":           {statement(`"Effect": "Allow", "Action": [], "Resource": "*"`), "empty"},
		"a number":             {statement(`"Effect": "Allow", "Action": [1], "Resource": "*"`), "not a string"},
		"no service":           {statement(`"Effect": "Allow", "Action": "RunInstances", "Resource": "*"`), "RunInstances"},
		"no resource":          {statement(`"Effect": "Allow", "Action": "*"`), "neither Resource nor NotResource"},
		"not an ARN":           {statement(`"Effect": "Allow", "Action": "*", "Resource": "ami-1"`), "ami-1"},
		"any service's ARN":    {statement(`"Effect": "Allow", "Action": "*", "Resource": "arn:aws:*:::image/ami-1"`), "is no resource"},
		"a variable":           {statement(`"Effect": "Allow", "Action": "*", "Resource": "arn:aws:iam:::user/${aws:username}"`), "policy variable"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(test.policy)); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want an error that says %q", err, test.says)
			}
		})
	}
}

func TestPoliciesAreReadFromFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	const allow = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "ec2:CopyImage", "Resource": "*"}}`
	for name, text := range map[string]string{"a.json": allow, "b=c.json": allow, "bad.json": `{"Version": "2012-10-17"}`} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for argument, caller := range map[string]string{"a.json": "", "AKIA=a.json": "AKIA", "./b=c.json": "", "AKIA=b=c.json": "AKIA"} {
		set := Set{}
		if err := set.Read(argument); err != nil || len(set[caller]) != 1 {
			t.Errorf("%s: %v, policies %v, want one of caller %q", argument, err, set, caller)
		}
	}
	for argument, says := range map[string]string{"": "ACCESS_KEY", "AKIA=": "no such file", "AKIA=absent.json": "absent.json", "bad.json": "bad.json: the Statement"} {
		if err := (Set{}).Read(argument); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want an error that says %q", argument, err, says)
		}
	}
}
