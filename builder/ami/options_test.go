package ami

import "testing"

func TestAKeyCanBeGivenInEveryForm(t *testing.T) {
	const id = "1234abcd-12ab-34cd-56ef-1234567890ab"
	for _, key := range []string{
		id, "mrk-1234abcd12ab34cd56ef1234567890ab", "alias/foo", "alias/team/foo_bar-1",
		"arn:aws:kms:eu-west-1:123456789012:key/" + id, "arn:aws:kms:eu-west-1:123456789012:alias/foo", "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/" + id,
	} {
		if !keyPattern.MatchString(key) {
			t.Errorf("%q is refused", key)
		}
	}
}
