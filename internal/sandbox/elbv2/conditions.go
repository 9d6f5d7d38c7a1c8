package elbv2

import (
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/wire"
)

// Condition is what a rule asks of a request. One of its values must match, in
// which * stands for any characters and ? for one.
type Condition struct {
	Field  string // path-pattern, host-header or http-header
	Header string `json:",omitempty"` // the name, of http-header
	Values []string
}

// The fields of conditions. The others that AWS has (http-request-method,
// query-string, source-ip) are not known.
const (
	PathPattern = "path-pattern"
	HostHeader  = "host-header"
	HTTPHeader  = "http-header"
)

var fields = []string{PathPattern, HostHeader, HTTPHeader}

// condition is a condition on the wire. Values may stand in the condition itself,
// as they did at first, or in the configuration of its field.
type condition struct {
	Field             string
	Values            []string
	PathPatternConfig *conditionValues
	HostHeaderConfig  *conditionValues
	HttpHeaderConfig  *headerValues
}

type conditionValues struct{ Values []string }

type headerValues struct {
	HttpHeaderName string
	Values         []string
}

// The limits of conditions
// (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-limits.html).
const (
	maxConditionValues = 5 // of all conditions of a rule
	maxWildcards       = 5
	maxValue           = 128
	maxHeaderName      = 40
)

// conditionsOf checks the conditions of a rule.
func conditionsOf(in []condition) ([]Condition, error) {
	if len(in) == 0 {
		return nil, invalid("A condition must be specified")
	}
	var conditions []Condition
	values, wildcards := 0, 0
	for _, c := range in {
		one, err := c.plain()
		if err != nil {
			return nil, err
		}
		if one.Field != HTTPHeader && slices.ContainsFunc(conditions, func(other Condition) bool { return other.Field == one.Field }) {
			return nil, invalid("A rule can only have one '%s' condition", one.Field)
		}
		for _, value := range one.Values {
			values++
			wildcards += strings.Count(value, "*") + strings.Count(value, "?")
			if value == "" || len(value) > maxValue {
				return nil, invalid("Condition value '%s' must contain between 1 and %d characters", value, maxValue)
			}
		}
		conditions = append(conditions, one)
	}
	if values > maxConditionValues || wildcards > maxWildcards {
		return nil, invalid("A rule can have at most %d condition values and %d wildcard characters, and has %d and %d", maxConditionValues, maxWildcards, values, wildcards)
	}
	return conditions, nil
}

func (c *condition) plain() (Condition, error) {
	out := Condition{Field: c.Field, Values: c.Values}
	given := 0
	for field, config := range map[string]*conditionValues{PathPattern: c.PathPatternConfig, HostHeader: c.HostHeaderConfig} {
		if config != nil {
			given++
			if c.Field == field {
				out.Values = config.Values
			}
		}
	}
	if c.HttpHeaderConfig != nil {
		given++
		out.Header, out.Values = c.HttpHeaderConfig.HttpHeaderName, c.HttpHeaderConfig.Values
	}
	switch {
	case !slices.Contains(fields, c.Field):
		return out, invalid("The sandbox does not know conditions of field '%s'; it knows %s", c.Field, strings.Join(fields, ", "))
	case given > 1 || given == 1 && len(c.Values) > 0 || len(out.Values) == 0:
		return out, invalid("A condition of field '%s' must have values, in one place", c.Field)
	case (c.HttpHeaderConfig != nil) != (c.Field == HTTPHeader):
		return out, invalid("HttpHeaderConfig belongs to conditions of field '%s', and they need it", HTTPHeader)
	case c.Field == HTTPHeader && (out.Header == "" || len(out.Header) > maxHeaderName || strings.ContainsAny(out.Header, "*? :")):
		return out, invalid("HTTP header name '%s' is not valid: it has between 1 and %d characters and no wildcards", out.Header, maxHeaderName)
	case strings.EqualFold(out.Header, "Host"):
		return out, wire.Errorf("InvalidConfigurationRequest", "Use a condition of field '%s' for the host header", HostHeader)
	}
	return out, nil
}

func (c Condition) describe() condition {
	values := slices.Clone(c.Values)
	switch out := (condition{Field: c.Field}); c.Field {
	case PathPattern:
		out.Values, out.PathPatternConfig = values, &conditionValues{values}
		return out
	case HostHeader:
		out.Values, out.HostHeaderConfig = values, &conditionValues{values}
		return out
	default:
		out.HttpHeaderConfig = &headerValues{c.Header, values}
		return out
	}
}
