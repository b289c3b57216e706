package awsconfig

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const answer = `<GetCallerIdentityResponse><GetCallerIdentityResult><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`

// A slowConn is a connection whose writer is told of a write a second late, as
// when its thread has to wait for the processor.
type slowConn struct{ net.Conn }

func (c slowConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	time.Sleep(time.Second)
	return n, err
}

// dial connects to a server that answers at once, but sends the answer's body
// two seconds after its header.
func dial(context.Context, string, string) (net.Conn, error) {
	mine, its := net.Pipe()
	go func() {
		defer its.Close()
		r, err := http.ReadRequest(bufio.NewReader(its))
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		if _, err := io.WriteString(its, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"); err != nil {
			return
		}
		time.Sleep(2 * time.Second)
		_, _ = io.WriteString(its, answer)
	}()
	return slowConn{mine}, nil
}

// call makes one call of STS through the client, in fake time.
func call(t *testing.T, timeout time.Duration) (accountID string, err error) {
	synctest.Test(t, func(t *testing.T) {
		config := At("http://aws", "eu-west-1", "AKIAIOSFODNN7EXAMPLE", "secret")
		config.HTTPClient = HTTPClient(timeout, func(tr *http.Transport) { tr.DialContext = dial })
		config.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		var out *sts.GetCallerIdentityOutput
		if out, err = sts.NewFromConfig(config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}); err == nil {
			accountID = aws.ToString(out.Account)
		}
		time.Sleep(time.Minute) // the server ends, too
	})
	return accountID, err
}

// No answer is lost because it came before net/http was done with the request:
// for CreateAccessKey, it would be the secret that is lost.
func TestHTTPClientKeepsAnEarlyAnswer(t *testing.T) {
	if accountID, err := call(t, 10*time.Second); accountID != "123456789012" || err != nil {
		t.Errorf("got %q, %v", accountID, err)
	}
}

// The call takes three seconds.
func TestHTTPClientTimeout(t *testing.T) {
	if _, err := call(t, 2*time.Second); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want a timeout", err)
	}
}
