package balancer

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

func TestConditions(t *testing.T) {
	path := func(values ...string) elbv2.Condition {
		return elbv2.Condition{Field: elbv2.PathPattern, Values: values}
	}
	host := func(values ...string) elbv2.Condition {
		return elbv2.Condition{Field: elbv2.HostHeader, Values: values}
	}
	header := func(name string, values ...string) elbv2.Condition {
		return elbv2.Condition{Field: elbv2.HTTPHeader, Header: name, Values: values}
	}
	for _, tc := range []struct {
		name      string
		url       string
		header    http.Header
		condition elbv2.Condition
		want      bool
	}{
		{"a path", "/test", nil, path("/test"), true},
		{"another path", "/test/x", nil, path("/test"), false},
		{"one of two paths", "/b", nil, path("/a", "/b"), true},
		{"a path in other letters", "/Test", nil, path("/test"), false},
		{"a path with a query", "/test?x=/no", nil, path("/test"), true},
		{"any path", "/a/b/c", nil, path("*"), true},
		{"stars in between", "/img/2026/a.png", nil, path("/img/*/*.png"), true},
		{"stars in between, and another end", "/img/2026/a.gif", nil, path("/img/*/*.png"), false},
		{"one character", "/v1", nil, path("/v?"), true},
		{"no character", "/v", nil, path("/v?"), false},
		{"a star that is nothing", "/v", nil, path("/v*"), true},
		{"a host in other letters", "http://Green.Example.com/", nil, host("green.example.com"), true},
		{"a host with a port", "http://green.example.com:8080/", nil, host("green.*"), true},
		{"another host", "http://blue.example.com/", nil, host("green.*"), false},
		{"a header in other letters", "/", http.Header{"X-Stage": {"Green"}}, header("x-stage", "gr*"), true},
		{"the second value of a header", "/", http.Header{"X-Stage": {"blue", "green"}}, header("X-Stage", "green"), true},
		{"no such header", "/", nil, header("X-Stage", "*"), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, tc.url, nil)
			request.Header = tc.header
			if got := meets(request, tc.condition); got != tc.want {
				t.Errorf("meets = %v, want %v", got, tc.want)
			}
		})
	}
}

func TestRequestsGoByTheFirstRuleThatTheyMeet(t *testing.T) {
	l := newLab(t, "HTTP")
	l.group("green", "/health")
	l.add("webs", "i-blue", named("blue"))
	l.add("green", "i-green", named("green"))
	stage := elbv2.Condition{Field: elbv2.HTTPHeader, Header: "X-Stage", Values: []string{"green"}}
	page := elbv2.Condition{Field: elbv2.PathPattern, Values: []string{"/page"}}
	l.listener.Rules = []elbv2.Rule{
		{Conditions: []elbv2.Condition{page, stage}, Forward: []elbv2.Weighted{{TargetGroup: "green", Weight: 1}}},
		{Conditions: []elbv2.Condition{page}, Forward: []elbv2.Weighted{{TargetGroup: "green", Weight: 0}, {TargetGroup: "webs", Weight: 1}}},
	}
	l.listener.Forward = nil
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	for want, header := range map[string]http.Header{"green": {"X-Stage": {"green"}}, "blue": {"X-Stage": {"blue"}}} {
		for range 3 {
			response := l.request(http.MethodGet, header)
			if got := body(t, response); got != want {
				t.Errorf("X-Stage %s got an answer of %s", header.Get("X-Stage"), got)
			}
		}
	}
}

func TestABalancerDealsWeightsExactly(t *testing.T) {
	l := newLab(t, "HTTP")
	l.group("green", "/health")
	l.add("webs", "i-blue", named("blue"))
	l.add("green", "i-green", named("green"))
	l.listener.Forward = []elbv2.Weighted{{TargetGroup: "webs", Weight: 95}, {TargetGroup: "green", Weight: 5}}
	if err := l.Listen(l.listener); err != nil {
		t.Fatal(err)
	}
	answers := map[string]int{}
	for range 200 {
		_, name := l.get()
		answers[name]++
	}
	if answers["blue"] != 190 || answers["green"] != 10 {
		t.Errorf("answers = %v, want 190 and 10", answers)
	}
}
