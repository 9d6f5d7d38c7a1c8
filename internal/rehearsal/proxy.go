package rehearsal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
)

// Proxy stands between packer and a sandbox, and knows which calls pass.
type Proxy struct {
	// URL is the endpoint of every service, in place of the sandbox's.
	URL string

	server *http.Server
}

// Call is a call that the sandbox has carried out.
type Call struct {
	// Action is the operation as in IAM: "ec2:RegisterImage".
	Action string

	// Key is the caller's access key.
	Key string
}

// Changes tells whether the call changed something. In AWS's services the
// names of those that don't begin with one of a few words.
func (c Call) Changes() bool {
	_, operation, _ := strings.Cut(c.Action, ":")
	for _, asks := range []string{"Describe", "Get", "List", "AssumeRole"} {
		if strings.HasPrefix(operation, asks) {
			return false
		}
	}
	return true
}

// Proxy opens a proxy to the sandbox. After is called for every call that was
// carried out without an error, before its answer is handed on; calls that are
// made at the same time come at the same time.
func (b *Sandbox) Proxy(after func(Call)) (*Proxy, error) {
	sandbox, err := url.Parse(b.URL)
	if err != nil {
		return nil, fmt.Errorf("open a proxy: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a proxy: %w", err)
	}
	passage := &httputil.ReverseProxy{
		Transport: &http.Transport{MaxIdleConnsPerHost: 64},
		// The sandbox serves loopback names only, and such is its own.
		Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(sandbox) },
		ModifyResponse: func(answer *http.Response) error {
			if call, ok := answer.Request.Context().Value(callKey{}).(Call); ok && answer.StatusCode < http.StatusMultipleChoices {
				after(call)
			}
			return nil
		},
		// The sandbox or the build has been ended: who asks sees the connection cut.
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p := &Proxy{URL: "http://" + listener.Addr().String()}
	p.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call, err := callOf(r)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		// A caller that is killed does not take back what it has asked for.
		ctx := context.WithValue(context.WithoutCancel(r.Context()), callKey{}, call)
		passage.ServeHTTP(w, r.WithContext(ctx))
	})}
	go func() { _ = p.server.Serve(listener) }() // it ends with Close
	return p, nil
}

type callKey struct{}

// Close cuts all connections.
func (p *Proxy) Close() error { return p.server.Close() }

// Environ is the sandbox's Environ with the proxy in its place.
func (p *Proxy) Environ(accessKey string) []string { return environ(p.URL, accessKey) }

// callOf reads from a request which call it is. The request stays whole.
func callOf(r *http.Request) (Call, error) {
	// AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, …
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope := strings.Split(credential, "/")
	if len(scope) < 5 {
		return Call{}, fmt.Errorf("%s %s is not signed", r.Method, r.URL)
	}
	operation, err := operationOf(r)
	return Call{Action: scope[3] + ":" + operation, Key: scope[0]}, err
}

func operationOf(r *http.Request) (string, error) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		_, operation, _ := strings.Cut(target, ".")
		return operation, nil
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return "", err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, err := url.ParseQuery(string(body))
		return form.Get("Action"), err
	}
	// EBS direct is all that speaks otherwise.
	switch {
	case r.Method == http.MethodGet:
		return "Get", nil
	case r.Method == http.MethodPut:
		return "PutSnapshotBlock", nil
	case strings.HasPrefix(r.URL.Path, "/snapshots/completion/"):
		return "CompleteSnapshot", nil
	}
	return "StartSnapshot", nil
}
