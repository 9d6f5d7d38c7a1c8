package install

import (
	"context"
	"crypto/tls"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const (
	// attempts is how often a fetch is begun; before each further one there is
	// a pause, twice as long every time.
	attempts = 4
	pause    = time.Second
	// stall is how long a transfer may go without a byte.
	stall = time.Minute
)

// errStalled ends a transfer in which nothing has come for too long.
var errStalled = fmt.Errorf("nothing came for %s", stall)

// errRedirect refuses a redirect; another attempt would get the same one.
var errRedirect = errors.New("it redirects more than 10 times, or to a URL that is not https")

// client never follows a redirect from https to anything weaker.
var client = &http.Client{
	CheckRedirect: func(next *http.Request, via []*http.Request) error {
		if len(via) >= 10 || (via[0].URL.Scheme == "https" && next.URL.Scheme != "https") {
			return errRedirect
		}
		return nil
	},
}

// fetch gets what a source names into a new file. Neither the address of an
// object nor the query of a URL, which may be secrets, are in its errors.
func (p *Plan) fetch(ctx context.Context, s source, path string, ui Ui) error {
	address := s.url.String()
	var err error
	if s.kind == object {
		if address, err = p.Objects(ctx, s.url.Host, strings.TrimPrefix(s.url.Path, "/")); err != nil {
			return fmt.Errorf("packages: fetch %s: %w", s, err)
		}
	}
	wait := pause
	for attempt := range attempts {
		if attempt > 0 {
			ui.Say(fmt.Sprintf("Fetching %s failed: %v. Trying again in %s", s, err, wait))
			if err := sleep(ctx, wait); err != nil {
				return err
			}
			wait *= 2
		}
		if err = attemptFetch(ctx, s.String(), address, path, ui); err == nil || ctx.Err() != nil || !passing(err) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("packages: fetch %s: %w", s, err)
	}
	return nil
}

func attemptFetch(ctx context.Context, what, address, path string, ui Ui) (err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watch := time.AfterFunc(stall, func() { cancel(errStalled) })
	defer watch.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return errors.New("the address is not a URL")
	}
	response, err := client.Do(request)
	if err != nil {
		return cause(ctx, err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	body := ui.TrackProgress(what, 0, max(response.ContentLength, 0), response.Body)
	defer func() { err = errors.Join(err, body.Close()) }() // ends the progress bar
	if response.StatusCode != http.StatusOK {
		return refused(response.StatusCode, body)
	}

	out, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, &watched{body, watch})
	if err != nil {
		err = cause(ctx, err)
	}
	return errors.Join(err, out.Close())
}

// watched puts the stall off with every byte.
type watched struct {
	io.Reader
	watch *time.Timer
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Reader.Read(p)
	if n > 0 {
		w.watch.Reset(stall)
	}
	return n, err
}

// cause is the reason of a failed transfer, without the address.
func cause(ctx context.Context, err error) error {
	if reason := context.Cause(ctx); reason != nil {
		return reason
	}
	if urlError := (*url.Error)(nil); errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

// A refusal is an answer other than 200.
type refusal struct {
	status int
	reason string
}

func (r *refusal) Error() string {
	text := fmt.Sprintf("the server answered %d %s", r.status, http.StatusText(r.status))
	if r.reason != "" {
		text += ": " + r.reason
	}
	return text
}

// refused reads the reason where the server is S3.
func refused(status int, body io.Reader) error {
	var answer struct{ Code, Message string }
	r := &refusal{status: status}
	if xml.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&answer) == nil && answer.Code != "" {
		r.reason = answer.Code + ": " + answer.Message
	}
	return r
}

// passing tells whether another attempt may do better.
func passing(err error) bool {
	if r := (*refusal)(nil); errors.As(err, &r) {
		return r.status >= 500 || r.status == http.StatusTooManyRequests || r.status == http.StatusRequestTimeout
	}
	var local *os.PathError
	var certificate *tls.CertificateVerificationError
	return !errors.Is(err, errRedirect) && !errors.As(err, &local) && !errors.As(err, &certificate)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}
