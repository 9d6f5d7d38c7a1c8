package cloudwatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
)

// rule is the expression of a composite alarm: ALARM, OK and INSUFFICIENT_DATA of
// an alarm's name or ARN, TRUE and FALSE, with AND, OR, NOT and parentheses.
// (AT_LEAST is not known.)
type rule struct {
	holds  func(state func(name string) string) bool
	alarms []string
}

// parseRule reads an expression. NOT binds closest, then AND, then OR.
func parseRule(text string) (*rule, error) {
	p := &ruleParser{rest: text}
	holds, err := p.either()
	if err == nil && p.next() != "" {
		err = fmt.Errorf("there is %q after its end", p.next())
	}
	if err != nil {
		return nil, err
	}
	return &rule{holds, p.alarms}, nil
}

type truth = func(state func(name string) string) bool

type ruleParser struct {
	rest   string
	alarms []string
	depth  int
}

// next is the word or sign that comes next, without taking it; "" at the end.
func (p *ruleParser) next() string {
	p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace)
	if p.rest == "" {
		return ""
	}
	if strings.ContainsRune("()", rune(p.rest[0])) {
		return p.rest[:1]
	}
	if end := strings.IndexFunc(p.rest, func(r rune) bool { return unicode.IsSpace(r) || r == '(' || r == ')' }); end >= 0 {
		return p.rest[:end]
	}
	return p.rest
}

// take takes what comes next if it is the word.
func (p *ruleParser) take(word string) bool {
	if p.next() != word {
		return false
	}
	p.rest = p.rest[len(word):]
	return true
}

func (p *ruleParser) either() (truth, error) {
	return p.joined("OR", p.both, func(a, b bool) bool { return a || b })
}

func (p *ruleParser) both() (truth, error) {
	return p.joined("AND", p.single, func(a, b bool) bool { return a && b })
}

func (p *ruleParser) joined(word string, part func() (truth, error), join func(a, b bool) bool) (truth, error) {
	all, err := part()
	for err == nil && p.take(word) {
		first := all
		var second truth
		if second, err = part(); err == nil {
			all = func(state func(string) string) bool { return join(first(state), second(state)) }
		}
	}
	return all, err
}

// maxDepth is more than any rule needs.
const maxDepth = 100

func (p *ruleParser) single() (truth, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("it is more than %d levels deep", maxDepth)
	}
	defer func() { p.depth-- }()
	switch {
	case p.take("TRUE"):
		return func(func(string) string) bool { return true }, nil
	case p.take("FALSE"):
		return func(func(string) string) bool { return false }, nil
	case p.take("NOT"):
		inner, err := p.single()
		return func(state func(string) string) bool { return !inner(state) }, err
	case p.take("("):
		inner, err := p.either()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("there is %q where a ) should be", p.next())
		}
		return inner, err
	}
	for _, wanted := range []string{ringing, ok, insufficientData} {
		if p.take(wanted) {
			name, err := p.argument()
			return func(state func(string) string) bool { return state(name) == wanted }, err
		}
	}
	return nil, fmt.Errorf("there is %q where a condition should be", p.next())
}

// argument takes an alarm's name or ARN in parentheses, with quotation marks or
// without.
func (p *ruleParser) argument() (string, error) {
	if !p.take("(") {
		return "", fmt.Errorf("there is %q where the ( before an alarm should be", p.next())
	}
	end := strings.IndexByte(p.rest, ')')
	if quoted := strings.TrimLeftFunc(p.rest, unicode.IsSpace); strings.HasPrefix(quoted, `"`) {
		p.rest = quoted
		if end = strings.IndexByte(quoted[1:], '"'); end >= 0 {
			end += 1 + strings.IndexByte(quoted[1+end:], ')')
		}
	}
	if end < 0 {
		return "", fmt.Errorf("%q has no end", p.rest)
	}
	name := strings.Trim(strings.TrimSpace(p.rest[:end]), `"`)
	p.rest = p.rest[end+1:]
	if strings.HasPrefix(name, "arn:") {
		parts := strings.SplitN(name, ":", 7)
		name = parts[len(parts)-1]
	}
	if name == "" {
		return "", fmt.Errorf("an alarm without a name")
	}
	if !slices.Contains(p.alarms, name) {
		p.alarms = append(p.alarms, name)
	}
	return name, nil
}

// children are the alarms that a composite alarm's rule names.
func (a *alarm) children() []string {
	if a.Rule == "" {
		return nil
	}
	parsed, err := parseRule(a.Rule)
	if err != nil {
		return nil // it was valid when the alarm was put
	}
	return parsed.alarms
}

// evaluate brings the composite alarms whose children have changed since to the
// state that their rule says, those that others depend on first. Where they go in
// a circle, each is evaluated once.
func (p *page) evaluate(now time.Time) {
	done := map[string]bool{}
	var visit func(a *alarm)
	visit = func(a *alarm) {
		if done[a.Name] || a.Rule == "" {
			return
		}
		done[a.Name] = true
		due := a.Configured.Equal(now)
		for _, name := range a.children() {
			if child, exists := p.Alarms[name]; exists {
				visit(child)
				due = due || child.Transitioned.Equal(now)
			}
		}
		parsed, err := parseRule(a.Rule)
		if err != nil || !due {
			return
		}
		state := ok
		if parsed.holds(func(name string) string {
			if child, exists := p.Alarms[name]; exists {
				return child.State
			}
			return ""
		}) {
			state = ringing
		}
		if state != a.State || a.Reason == "" {
			a.to(state, fmt.Sprintf("%s transitioned to %s by its rule %s", a.ARN, state, a.Rule), "", now)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Alarms)) {
		visit(p.Alarms[name])
	}
}

// to brings an alarm into a state.
func (a *alarm) to(state, reason, data string, now time.Time) {
	if state != a.State {
		a.Transitioned = now
	}
	a.State, a.Reason, a.ReasonData, a.Updated = state, reason, data, now
}
