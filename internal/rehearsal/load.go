package rehearsal

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// Load sends requests, at a steady rate and each on time whatever became of
// the others, and counts what came back.
type Load struct {
	stop context.CancelFunc
	done sync.WaitGroup

	mu     sync.Mutex
	report Report
}

// Report is what became of a load's requests.
type Report struct {
	Served, Failed int

	// ByVersion counts the served requests by the version that answered.
	ByVersion map[string]int

	// Failures describes the first few that failed.
	Failures []string
}

const (
	requestTimeout = 10 * time.Second
	failuresKept   = 10
	mostRequests   = 100_000
)

// StartLoad sends perSecond requests a second to url until Stop; it ends by
// itself after 100,000 requests.
func StartLoad(ctx context.Context, url string, perSecond int) *Load {
	ctx, stop := context.WithCancel(ctx)
	l := &Load{stop: stop, report: Report{ByVersion: map[string]int{}}}
	// A browser or a proxy in front keeps connections open, but each comes
	// back after a while: both kinds of request are wanted here.
	client := &http.Client{Timeout: requestTimeout}
	l.done.Go(func() {
		defer client.CloseIdleConnections()
		ticks := time.NewTicker(time.Second / time.Duration(perSecond))
		defer ticks.Stop()
		for range mostRequests {
			select {
			case <-ctx.Done():
				return
			case <-ticks.C:
				l.done.Go(func() { l.count(request(context.WithoutCancel(ctx), client, url)) })
			}
		}
	})
	return l
}

// Stop ends the load, waits for the answers under way, and reports.
func (l *Load) Stop() Report {
	l.stop()
	l.done.Wait()
	return l.report
}

func (l *Load) count(version string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.report.Failed++
		if len(l.report.Failures) < failuresKept {
			l.report.Failures = append(l.report.Failures, time.Now().Format(time.TimeOnly)+" "+err.Error())
		}
		return
	}
	l.report.Served++
	l.report.ByVersion[version]++
}

// request asks the hello service once and gives the version that answered.
func request(ctx context.Context, client *http.Client, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return "", err
	}
	answer, err := client.Do(req)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(answer.Body)
	if closed := answer.Body.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return "", err
	}
	if answer.StatusCode != http.StatusOK {
		return "", fmt.Errorf("GET %s: %s", url, answer.Status)
	}
	var hello struct{ Version string }
	if err := json.Unmarshal(body, &hello); err != nil {
		return "", fmt.Errorf("GET %s: %w", url, err)
	}
	return hello.Version, nil
}

// Version asks url once which version answers.
func Version(ctx context.Context, url string) (string, error) {
	return request(ctx, &http.Client{Timeout: requestTimeout}, url)
}
