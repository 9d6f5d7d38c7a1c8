package balancer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/immutable-server/packer-plugin-immutable/internal/sandbox/elbv2"
)

// What a target's health is said to be, in ELBv2's words:
// https://docs.aws.amazon.com/elasticloadbalancing/latest/APIReference/API_TargetHealth.html
var (
	registering = elbv2.Health{State: elbv2.Initial, Reason: "Elb.RegistrationInProgress", Description: "Target registration is in progress"}
	checking    = elbv2.Health{State: elbv2.Initial, Reason: "Elb.InitialHealthChecking", Description: "Initial health checks in progress"}
	healthy     = elbv2.Health{State: elbv2.Healthy}
	timedOut    = elbv2.Health{State: elbv2.Unhealthy, Reason: "Target.Timeout", Description: "Request timed out"}
	noAnswer    = elbv2.Health{State: elbv2.Unhealthy, Reason: "Target.FailedHealthChecks", Description: "Health checks failed"}
)

// wrongCode is the health of a target that answers with a status that its group does not take for health.
func wrongCode(status int) elbv2.Health {
	return elbv2.Health{
		State:       elbv2.Unhealthy,
		Reason:      "Target.ResponseCodeMismatch",
		Description: fmt.Sprintf("Health checks failed with these codes: [%d]", status),
	}
}

// watch checks a target's health, at once and then at its group's interval, until it drains or is removed.
func (b *Balancer) watch(g *group, t *target) {
	for {
		spec := b.begin(g, t)
		interval := time.NewTimer(spec.Interval)
		found := b.check(t.watched, spec, t)
		if t.watched.Err() != nil {
			interval.Stop()
			return
		}
		b.note(g, t, found)
		select {
		case <-interval.C:
		case <-t.watched.Done():
			interval.Stop()
			return
		}
	}
}

// begin gives a group's settings as they are now, for one check.
func (b *Balancer) begin(g *group, t *target) elbv2.TargetGroup {
	b.mu.Lock()
	defer b.mu.Unlock()
	if t.health == registering {
		t.health = checking
	}
	return g.TargetGroup
}

// note counts what a check has found and tells when it changes the target's health.
func (b *Balancer) note(g *group, t *target, found elbv2.Health) {
	b.mu.Lock()
	before := t.health
	t.count(found, g.TargetGroup)
	changed, heard, arn := t.health != before, b.heard, g.ARN
	b.mu.Unlock()
	if changed {
		for _, f := range heard {
			f(arn, t.Target)
		}
	}
}

// count applies the thresholds. A target that is new needs to pass once.
func (t *target) count(found elbv2.Health, g elbv2.TargetGroup) {
	if found == healthy {
		t.passed, t.failed = t.passed+1, 0
		if t.passed >= g.Healthy || t.health.State == elbv2.Initial {
			t.health = healthy
		}
		return
	}
	t.passed, t.failed = 0, t.failed+1
	if t.failed >= g.Unhealthy || t.health.State == elbv2.Unhealthy {
		t.health = found
	}
}

// check asks a target once.
func (b *Balancer) check(ctx context.Context, g elbv2.TargetGroup, t *target) elbv2.Health {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	address := t.Address.String()
	if g.CheckPort != 0 {
		address = net.JoinHostPort(t.Address.Addr().String(), strconv.Itoa(g.CheckPort))
	}
	found, err := healthy, error(nil)
	if g.CheckProtocol == "TCP" {
		err = t.connects(ctx, address)
	} else {
		found, err = t.answers(ctx, "http://"+address+g.CheckPath, g.Matcher)
	}
	switch {
	case err == nil:
		return found
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return timedOut
	default:
		return noAnswer
	}
}

func (t *target) connects(ctx context.Context, address string) error {
	conn, err := t.dial(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (t *target) answers(ctx context.Context, url, matcher string) (elbv2.Health, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return elbv2.Health{}, err
	}
	request.Header.Set("User-Agent", "ELB-HealthChecker/2.0")
	// A connection is for one check: a target that takes no new ones is not healthy.
	transport := &http.Transport{DialContext: t.dial, DisableKeepAlives: true, DisableCompression: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return elbv2.Health{}, err
	}
	if err := response.Body.Close(); err != nil {
		return elbv2.Health{}, err
	}
	if !matches(matcher, response.StatusCode) {
		return wrongCode(response.StatusCode), nil
	}
	return healthy, nil
}

// matches tells whether a status is in a list of codes and ranges: "200", "200,302", "200-299".
func matches(matcher string, status int) bool {
	for entry := range strings.SplitSeq(matcher, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(entry), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		if to, err := strconv.Atoi(last); err == nil && from <= status && status <= to {
			return true
		}
	}
	return false
}
