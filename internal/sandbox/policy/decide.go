package policy

import (
	"errors"
	"fmt"
	"strings"
)

// Set is the policies of all callers: by access key, and under "" those that
// every caller has besides.
type Set map[string][]*Document

// Add gives the caller with an access key, or every caller, a policy.
func (s Set) Add(accessKey string, d *Document) { s[accessKey] = append(s[accessKey], d) }

// Enter gives what decides about a caller's actions, or nil for a caller without
// policies, who may do everything.
func (s Set) Enter(accessKey string) func(action, resource string) error {
	documents := append(append([]*Document{}, s[""]...), s[accessKey]...)
	if len(documents) == 0 {
		return nil
	}
	return func(action, resource string) error { return decide(documents, action, resource) }
}

// decide gives nil where the documents together permit an action on a resource,
// else why they don't, in AWS's words. An empty resource is any at all, for
// callers that can't know which.
func decide(documents []*Document, action, resource string) error {
	allowed := false
	for _, d := range documents {
		for _, s := range d.statements {
			switch {
			case !s.actions.match(strings.ToLower(action)) || !s.on(resource):
			case s.deny:
				return errors.New("with an explicit deny in an identity-based policy")
			default:
				allowed = true
			}
		}
	}
	if !allowed {
		return fmt.Errorf("because no identity-based policy allows the %s action", action)
	}
	return nil
}

// on tells whether a statement is about a resource. Of any resource at all an
// Allow need name only one, a Deny must name them all.
func (s statement) on(resource string) bool {
	if resource != "" {
		return s.resources.match(resource)
	}
	return !s.deny || s.resources.match("*")
}

func (p patterns) match(text string) bool {
	for _, pattern := range p.list {
		if match(pattern, text) {
			return !p.negated
		}
	}
	return p.negated
}

// match tells whether a text is like a pattern, in which * is anything and ? is
// any one character. A * reaches across colons and slashes, as in IAM
// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html).
func match(pattern, text string) bool {
	// Where a * was last met, and how much of the text it stands for.
	star, taken := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, taken = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p, t = p+1, t+1
		case star >= 0: // the last * takes one more
			taken++
			p, t = star+1, taken
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
