package fault

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind is what goes wrong.
type Kind string

// The kinds.
const (
	Throttle    Kind = "throttle"    // the service's own throttling error
	Error       Kind = "error"       // the service's own error 500
	Unavailable Kind = "unavailable" // error 503
	Contention  Kind = "contention"  // Auto Scaling's ResourceContention, which is to be tried again
	Reset       Kind = "reset"       // the connection is reset
	Stall       Kind = "stall"       // the connection stays open and nothing comes
	Late        Kind = "late"        // what is created is not seen for some time
)

// Moment is when it goes wrong.
type Moment string

// The moments.
const (
	Before Moment = "before" // the operation is not carried out
	After  Moment = "after"  // it is, but the answer is lost
	Midway Moment = "midway" // as after, but half of the answer arrives
)

// moments lists the moments that each kind knows.
var moments = map[Kind][]Moment{
	Throttle:    {Before},
	Error:       {Before, After},
	Unavailable: {Before, After},
	Contention:  {Before},
	Reset:       {Before, After, Midway},
	Stall:       {Before, After, Midway},
	Late:        {Before},
}

var kinds = []Kind{Throttle, Error, Unavailable, Contention, Reset, Stall, Late}

// Rule says what goes wrong with which calls.
type Rule struct {
	Operations string // as in IAM actions, with * for anything: "ec2:Describe*"
	Kind       Kind
	When       Moment
	Rate       float64       // the part of the calls, from 0 to 1
	Nth        int           // this one call of each operation; 0 = those that Rate picks
	Count      int           // so many calls of each operation at most; 0 = no limit
	For        time.Duration // how long a stall lasts, 0 = until the client leaves; how late
}

// Parse reads a rule such as "ec2:*,kind=reset,when=after,rate=0.2": the
// operations, and then settings in any order.
func Parse(text string) (Rule, error) {
	operations, settings, _ := strings.Cut(text, ",")
	r := Rule{Operations: operations, When: Before, Rate: 1}
	if !wellFormed(operations) {
		return Rule{}, fmt.Errorf(`%q names no operations; begin with * or SERVICE:OPERATION, such as ec2:RegisterImage or ebs:*`, operations)
	}
	given := map[string]bool{}
	for setting := range strings.SplitSeq(settings, ",") {
		name, value, _ := strings.Cut(setting, "=")
		set, known := parsers[name]
		switch {
		case settings == "":
			continue
		case !known:
			return Rule{}, fmt.Errorf("%q is not a setting; use kind, when, rate, nth, count or for, as in kind=throttle", name)
		case given[name]:
			return Rule{}, fmt.Errorf("%s is given twice; give it once", name)
		}
		given[name] = true
		if err := set(&r, value); err != nil {
			return Rule{}, err
		}
	}
	return r, r.check(given)
}

func wellFormed(operations string) bool {
	if operations == "*" {
		return true
	}
	service, operation, ok := strings.Cut(operations, ":")
	letters := func(s string) bool {
		return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-*") == ""
	}
	return ok && letters(service) && letters(operation)
}

var parsers = map[string]func(r *Rule, value string) error{
	"kind": func(r *Rule, value string) error {
		if !slices.Contains(kinds, Kind(value)) {
			return fmt.Errorf("kind %q is not known; use one of %s", value, list(kinds))
		}
		r.Kind = Kind(value)
		return nil
	},
	"when": func(r *Rule, value string) error {
		r.When = Moment(value)
		return nil
	},
	"rate": func(r *Rule, value string) (err error) {
		if r.Rate, err = strconv.ParseFloat(value, 64); err != nil || !(r.Rate >= 0 && r.Rate <= 1) {
			return fmt.Errorf("rate %q is not from 0 to 1; give the part of the calls, such as 0.2", value)
		}
		return nil
	},
	"nth": func(r *Rule, value string) (err error) {
		r.Nth, err = positive("nth", value)
		return err
	},
	"count": func(r *Rule, value string) (err error) {
		r.Count, err = positive("count", value)
		return err
	},
	"for": func(r *Rule, value string) (err error) {
		if r.For, err = time.ParseDuration(value); err != nil || r.For <= 0 {
			return fmt.Errorf("for %q is not a time above 0; give one such as 30s", value)
		}
		return nil
	},
}

func positive(name, value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%s %q is not a number from 1 on", name, value)
	}
	return n, nil
}

// check refuses settings that say nothing together.
func (r Rule) check(given map[string]bool) error {
	switch {
	case r.Kind == "":
		return fmt.Errorf("kind is missing; add one of %s, as in kind=throttle", list(kinds))
	case r.Kind == Contention && !strings.HasPrefix(r.Operations, "autoscaling:"):
		return fmt.Errorf("contention is an error of Auto Scaling; begin the rule with autoscaling:, not with %s", r.Operations)
	case !slices.Contains(moments[r.Kind], r.When):
		return fmt.Errorf("when %q is not known of kind %s; use one of %s", r.When, r.Kind, list(moments[r.Kind]))
	case given["nth"] && (given["rate"] || given["count"]):
		return fmt.Errorf("nth picks one call, so rate and count have no meaning beside it; give the one or the others")
	case given["for"] && r.Kind != Stall && r.Kind != Late:
		return fmt.Errorf("for has no meaning of kind %s; leave it out", r.Kind)
	case !given["for"] && r.Kind == Late:
		return fmt.Errorf("for is missing; add how late it is seen, such as for=30s")
	}
	return nil
}

// String is the rule as Parse reads it.
func (r Rule) String() string {
	text := r.Operations + ",kind=" + string(r.Kind)
	if len(moments[r.Kind]) > 1 {
		text += ",when=" + string(r.When)
	}
	if r.Nth > 0 {
		text += ",nth=" + strconv.Itoa(r.Nth)
	} else {
		text += ",rate=" + strconv.FormatFloat(r.Rate, 'g', -1, 64)
	}
	if r.Count > 0 {
		text += ",count=" + strconv.Itoa(r.Count)
	}
	if r.For > 0 {
		text += ",for=" + r.For.String()
	}
	return text
}

// creating are the operations whose creations can be seen late.
var creating = regexp.MustCompile(`^(ec2:(Copy|Create|Import|Register|Run)|ebs:StartSnapshot$)`)

// covers tells whether the rule is about an operation.
func (r Rule) covers(operation string) bool {
	if r.Kind == Late && !creating.MatchString(operation) {
		return false
	}
	match, err := path.Match(r.Operations, operation)
	return match && err == nil
}

// list names the choices that there are.
func list[S ~string](words []S) string {
	var b strings.Builder
	for i, word := range words {
		switch i {
		case 0:
		case len(words) - 1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}
