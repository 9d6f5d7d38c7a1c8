package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// version is the only one of the policy language; the one before it is from 2008.
const version = "2012-10-17"

// Document is a policy.
type Document struct{ statements []statement }

// statement allows or denies. Actions or resources that are negated are all but
// those that are listed.
type statement struct {
	deny      bool
	actions   patterns
	resources patterns
}

type patterns struct {
	negated bool
	list    []string
}

// Parse reads a policy document. Errors say in which statement they are.
func Parse(text []byte) (*Document, error) {
	elements, err := object(text)
	if err != nil {
		return nil, err
	}
	if err := elements.only("Version", "Id", "Statement"); err != nil {
		return nil, err
	}
	if said, err := elements.text("Version"); err != nil || said != version {
		return nil, errors.Join(fmt.Errorf("the Version is %q; only %q is known", said, version), err)
	}
	list, err := oneOrMore(elements["Statement"])
	if err != nil {
		return nil, fmt.Errorf("the Statement: %w", err)
	}
	d := &Document{}
	for n, item := range list {
		s, err := parseStatement(item)
		if err != nil {
			return nil, fmt.Errorf("statement %d: %w", n+1, err)
		}
		d.statements = append(d.statements, s)
	}
	return d, nil
}

func parseStatement(text []byte) (s statement, err error) {
	elements, err := object(text)
	if err != nil {
		return s, err
	}
	if err := elements.only("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource"); err != nil {
		return s, err
	}
	switch effect, err := elements.text("Effect"); {
	case err != nil:
		return s, err
	case effect != "Allow" && effect != "Deny":
		return s, fmt.Errorf("the Effect is %q; it must be Allow or Deny", effect)
	default:
		s.deny = effect == "Deny"
	}
	if s.actions, err = elements.patterns("Action", checkAction); err != nil {
		return s, err
	}
	// IAM does not tell the cases of letters in actions apart.
	for i, action := range s.actions.list {
		s.actions.list[i] = strings.ToLower(action)
	}
	s.resources, err = elements.patterns("Resource", checkResource)
	return s, err
}

var actionForm = regexp.MustCompile(`^(\*|[a-z0-9-]+:[A-Za-z0-9*?]+)$`)

func checkAction(action string) error {
	if !actionForm.MatchString(action) {
		return fmt.Errorf("%q is no action; actions are such as ec2:RunInstances", action)
	}
	return nil
}

// resourceForm is an ARN, whose service takes no wildcards.
var resourceForm = regexp.MustCompile(`^(\*|arn:[^:]+:[a-z0-9-]+:[^:]*:[^:]*:.+)$`)

func checkResource(resource string) error {
	switch {
	case strings.Contains(resource, "${"):
		return fmt.Errorf("%q has a policy variable, which the sandbox does not know", resource)
	case !resourceForm.MatchString(resource):
		return fmt.Errorf("%q is no resource; resources are ARNs or *", resource)
	}
	return nil
}

// elements are the members of a JSON object.
type elements map[string]json.RawMessage

// object parses a JSON object, in which no name may be twice.
func object(text []byte) (elements, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.Join(errors.New("not a JSON object"), err)
	}
	all := elements{}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		if _, twice := all[name.(string)]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		all[name.(string)] = value
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something after the JSON object")
	}
	return all, nil
}

func (e elements) only(names ...string) error {
	for name := range e {
		known := false
		for _, one := range names {
			known = known || one == name
		}
		if !known {
			return fmt.Errorf("the sandbox does not know the element %s; it knows %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

// text gives an element that is a string; an absent one is empty.
func (e elements) text(name string) (s string, err error) {
	if e[name] == nil {
		return "", nil
	}
	if err := json.Unmarshal(e[name], &s); err != nil {
		return "", fmt.Errorf("the %s is not a string", name)
	}
	return s, nil
}

// patterns gives the element of this name, or the one that begins with Not, of
// which there must be one.
func (e elements) patterns(name string, check func(string) error) (p patterns, err error) {
	given, negated := e[name], e["Not"+name]
	switch {
	case given == nil && negated == nil:
		return p, fmt.Errorf("there is neither %s nor Not%s", name, name)
	case given != nil && negated != nil:
		return p, fmt.Errorf("there are both %s and Not%s", name, name)
	case negated != nil:
		name, given, p.negated = "Not"+name, negated, true
	}
	items, err := oneOrMore(given)
	if err != nil {
		return p, fmt.Errorf("the %s: %w", name, err)
	}
	for _, item := range items {
		var pattern string
		if err := json.Unmarshal(item, &pattern); err != nil {
			return p, fmt.Errorf("the %s holds %s, which is not a string", name, item)
		}
		if err := check(pattern); err != nil {
			return p, fmt.Errorf("the %s: %w", name, err)
		}
		p.list = append(p.list, pattern)
	}
	return p, nil
}

// oneOrMore gives the items of a list, or what is not a list as the one item.
func oneOrMore(value json.RawMessage) ([]json.RawMessage, error) {
	var items []json.RawMessage
	switch {
	case value == nil:
		return nil, errors.New("there is none")
	case value[0] != '[':
		return []json.RawMessage{value}, nil
	case json.Unmarshal(value, &items) != nil || len(items) == 0:
		return nil, errors.New("the list is empty")
	}
	return items, nil
}
