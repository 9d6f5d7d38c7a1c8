package balancer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
)

// silence is the log of what is told to the client.
var silence = log.New(io.Discard, "", 0)

// chosen is the context key of a request's target.
type chosen struct{}

// forward is a listener's handler: it takes each request to a target and the answer back.
func (b *Balancer) forward(l *listener) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { address(r, l.Address.Port()) },
		Transport:    toTarget{},
		ErrorHandler: answerFor,
		ErrorLog:     silence,
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodTrace {
			answer(w, http.StatusMethodNotAllowed)
			return
		}
		t := b.choose(l, r)
		if t == nil {
			answer(w, http.StatusServiceUnavailable)
			return
		}
		ctx, cancel := context.WithCancel(context.WithValue(r.Context(), chosen{}, t))
		defer cancel()
		defer context.AfterFunc(t.ctx, cancel)() // a target that is removed ends its requests
		proxy.ServeHTTP(w, r.WithContext(ctx))
	})
}

// address makes the request that the target gets: the client's, host name included, with the
// headers that an Application Load Balancer adds.
func address(r *httputil.ProxyRequest, port uint16) {
	t := r.In.Context().Value(chosen{}).(*target)
	r.Out.URL.Scheme, r.Out.URL.Host = "http", t.Address.String()
	client, _, _ := strings.Cut(r.In.RemoteAddr, ":") // listeners are of IPv4 alone
	r.Out.Header.Set("X-Forwarded-For", strings.Join(append(r.In.Header.Values("X-Forwarded-For"), client), ", "))
	r.Out.Header.Set("X-Forwarded-Proto", "http")
	r.Out.Header.Set("X-Forwarded-Port", strconv.Itoa(int(port)))
}

// toTarget sends a request over the connections of its target.
type toTarget struct{}

func (toTarget) RoundTrip(r *http.Request) (*http.Response, error) {
	return r.Context().Value(chosen{}).(*target).transport.RoundTrip(once(r))
}

// once gives a request that is the same for the target, but not sent again when it cuts the connection:
// http.Transport repeats what has no body and an idempotent method, or a header that says it is idempotent.
func once(r *http.Request) *http.Request {
	single := r.WithContext(r.Context())
	if r.Body == nil && lacksBody(r.Method) {
		// A body that may be something. It is found to be nothing before anything is sent.
		single.Body = io.NopCloser(strings.NewReader(""))
	}
	single.Header = r.Header.Clone()
	for _, name := range []string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, given := single.Header[name]; given {
			delete(single.Header, name)
			single.Header[strings.ToLower(name)] = values // another spelling of the same name
		}
	}
	return single
}

// lacksBody tells of the idempotent methods, which http.Transport sends no empty body with.
func lacksBody(method string) bool {
	return method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
}

// answerFor answers a request that its target did not: 504 where it took too long, else 502.
func answerFor(w http.ResponseWriter, _ *http.Request, err error) {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		answer(w, http.StatusGatewayTimeout)
		return
	}
	answer(w, http.StatusBadGateway)
}

// reasons are the words of an Application Load Balancer for its own errors.
var reasons = map[int]string{
	http.StatusMethodNotAllowed:   "Not Allowed",
	http.StatusBadGateway:         "Bad Gateway",
	http.StatusServiceUnavailable: "Service Temporarily Unavailable",
	http.StatusGatewayTimeout:     "Gateway Time-out",
}

func answer(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d %s", status, reasons[status])
	w.Header().Set("Server", "awselb/2.0")
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	// A client that has gone away meanwhile is nobody's error.
	_, _ = fmt.Fprintf(w, "<html>\r\n<head><title>%s</title></head>\r\n<body>\r\n<center><h1>%s</h1></center>\r\n</body>\r\n</html>\r\n", title, title)
}
