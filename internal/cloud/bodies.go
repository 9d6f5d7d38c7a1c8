package cloud

import (
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// plainBodies gives the transport request bodies that can only be read. Those
// of the SDK can also write themselves, and once an answer has come they say so
// with io.EOF, which net/http takes for a failure: an answer that is quicker
// than the end of its request would cost the connection, and sometimes itself.
type plainBodies struct{ aws.HTTPClient }

func (c plainBodies) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.WithContext(r.Context())
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.HTTPClient.Do(r)
}
