package policy

import (
	"fmt"
	"os"
	"regexp"
)

// argument is [ACCESS_KEY=]FILE. What has a slash before the = is a file.
var argument = regexp.MustCompile(`^(?:([A-Za-z0-9_]+)=)?(.+)$`)

// Read adds the policy in a file, as [ACCESS_KEY=]FILE: to the caller with the
// access key, or to every caller.
func (s Set) Read(text string) error {
	parts := argument.FindStringSubmatch(text)
	if parts == nil {
		return fmt.Errorf("%q names no policy; give [ACCESS_KEY=]FILE", text)
	}
	contents, err := os.ReadFile(parts[2])
	if err != nil {
		return fmt.Errorf("read a policy: %w", err)
	}
	document, err := Parse(contents)
	if err != nil {
		return fmt.Errorf("read the policy %s: %w", parts[2], err)
	}
	s.Add(parts[1], document)
	return nil
}
