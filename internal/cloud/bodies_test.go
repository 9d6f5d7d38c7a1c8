package cloud

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
)

// An answer that is larger than a connection's buffers, and that comes at
// once, must not be lost, though nothing is tried twice.
func TestQuickAnswersAreNotLost(t *testing.T) {
	padding := strings.Repeat("<!-- padding -->", 64<<10/16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `<DescribeRegionsResponse><requestId>1</requestId>`+padding+`</DescribeRegionsResponse>`)
	}))
	defer server.Close()
	client := ec2.NewFromConfig(aws.Config{
		Region: "eu-west-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("A", "b", ""),
		HTTPClient:  plainBodies{awshttp.NewBuildableClient()},
	})
	for i := range 500 {
		if _, err := client.DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{}); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
	}
}
