// Package awsconfig has the parts of the AWS SDK's configuration that the
// functions share with the tests and the local cloud.
package awsconfig

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

// HTTPClient gives the SDK's own HTTP client, without the flaw that [client]
// works around. An attempt at a call ends after the timeout; 0 is none.
func HTTPClient(timeout time.Duration, options ...func(*http.Transport)) aws.HTTPClient {
	return client{awshttp.NewBuildableClient().WithTimeout(timeout).WithTransportOptions(options...)}
}

// At gives the configuration for a server that stands in for AWS.
func At(endpoint, region, keyID, secret string) aws.Config {
	return aws.Config{
		Region:       region,
		BaseEndpoint: &endpoint,
		HTTPClient:   HTTPClient(0),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: keyID, SecretAccessKey: secret}, nil
		}),
	}
}

// A client keeps an answer that comes in two pieces, header and body, soon after
// the request is out. The SDK closes the request's body when it has the answer's
// header, perhaps before net/http has looked whether more of the body follows.
// Read then tells the end of the body, as it should; but the WriteTo that the SDK's
// body has beside it returns io.EOF, which io.Copy takes for an error: net/http
// closes the connection, the answer is lost, and the call repeated.
type client struct{ aws.HTTPClient }

// Do implements [aws.HTTPClient]. It sends a body that has no WriteTo.
func (c client) Do(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		r = r.WithContext(r.Context()) // a copy
		r.Body = struct{ io.ReadCloser }{r.Body}
	}
	return c.HTTPClient.Do(r)
}
