package balancer

import (
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

// routes are where the requests of a listener go: by its rules, in their order,
// and by default.
type routes struct {
	rules    []route
	fallback *share
}

type route struct {
	conditions []elbv2.Condition
	share      *share
}

func newRoutes(spec elbv2.Listener) routes {
	r := routes{fallback: newShare(spec.Forward)}
	for _, rule := range spec.Rules {
		r.rules = append(r.rules, route{rule.Conditions, newShare(rule.Forward)})
	}
	return r
}

// of gives what a request is shared out by; a connection, which is nil, has no rules.
func (r *routes) of(request *http.Request) *share {
	if request != nil {
		for _, rule := range r.rules {
			if !slices.ContainsFunc(rule.conditions, func(c elbv2.Condition) bool { return !meets(request, c) }) {
				return rule.share
			}
		}
	}
	return r.fallback
}

// meets tells whether a request meets a condition: a path with its case, and without the query; a host
// and a header's value in any case
// (https://docs.aws.amazon.com/elasticloadbalancing/latest/application/rule-condition-types.html).
func meets(request *http.Request, c elbv2.Condition) bool {
	var actual []string
	fold := strings.ToLower
	switch c.Field {
	case elbv2.PathPattern:
		actual, fold = []string{request.URL.EscapedPath()}, func(s string) string { return s }
	case elbv2.HostHeader:
		host, _, err := net.SplitHostPort(request.Host)
		if err != nil {
			host = request.Host // without a port
		}
		actual = []string{host}
	case elbv2.HTTPHeader:
		actual = request.Header.Values(c.Header)
	}
	return slices.ContainsFunc(c.Values, func(pattern string) bool {
		return slices.ContainsFunc(actual, func(value string) bool { return like(fold(value), fold(pattern)) })
	})
}

// like matches text with a pattern in which * stands for any characters and ? for one.
func like(text, pattern string) bool {
	star, mark := -1, 0 // the last star, and where its text ends so far
	t, p := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			t, p = t+1, p+1
		case star >= 0:
			mark++
			t, p = mark, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
