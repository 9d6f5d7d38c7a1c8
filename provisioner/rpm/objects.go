package rpm

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// objects gives objects of S3 URLs that are signed for the next quarter of an
// hour, so that they are fetched as all other URLs are. The credentials are
// resolved once.
func (c *Config) objects() func(ctx context.Context, bucket, key string) (string, error) {
	var mu sync.Mutex
	var signer *s3.PresignClient
	return func(ctx context.Context, bucket, key string) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		if signer == nil {
			cfg, err := c.Load(ctx)
			if err != nil {
				return "", err
			}
			signer = s3.NewPresignClient(s3.NewFromConfig(cfg))
		}
		request, err := signer.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: aws.String(key)})
		if err != nil {
			return "", err
		}
		return request.URL, nil
	}
}
