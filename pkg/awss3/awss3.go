// Package awss3 reads and writes the audit's reports in their bucket.
package awss3

import (
	"context"
	"io"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys/audit"
)

// client is what of the SDK's client is used.
type client interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
}

var (
	_ client   = (*s3.Client)(nil)
	_ audit.S3 = (*S3)(nil)
)

// S3 implements the core's port to S3, on one bucket. Its errors are [iamkeys.Error].
type S3 struct {
	client client
	bucket string
}

// New gives an S3 on the bucket.
func New(config aws.Config, bucket string) *S3 {
	return &S3{bucket: bucket, client: s3.NewFromConfig(config, func(o *s3.Options) {
		o.RetryMaxAttempts = 4
		o.UsePathStyle = o.BaseEndpoint != nil // a server that stands in for S3 has no host name per bucket
	})}
}

// GetObject implements the port. Without s3:ListBucket, S3 answers AccessDenied
// for a missing object.
func (s *S3) GetObject(ctx context.Context, key string) (content []byte, etag string, err error) {
	const action = "s3:GetObject"
	resource := "object s3://" + s.bucket + "/" + key
	out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key})
	if err != nil {
		return nil, "", awserr.From(err, action, resource)
	}
	defer func() { _ = out.Body.Close() }() // it has been read to its end, or failed to be
	if content, err = io.ReadAll(out.Body); err != nil {
		return nil, "", awserr.From(err, action, resource)
	}
	return content, aws.ToString(out.ETag), nil
}

// run matches the files of one run, such as reports/123456789012/2026/11/30/<run>.json.
var run = regexp.MustCompile(`^reports/[a-z0-9]+/\d{4}/\d{2}/\d{2}/`)

// PutObject implements the port. The files of a run carry a tag by which the bucket's
// lifecycle rule lets them expire; what else there is, such as latest.json, never does.
// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
func (s *S3) PutObject(ctx context.Context, key, contentType string, content io.ReadSeeker, replaces *string) error {
	in := &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, ContentType: &contentType, Body: content}
	if run.MatchString(key) {
		in.Tagging = aws.String("iamkeys%3Areport=run")
	}
	switch {
	case replaces == nil:
	case *replaces == "":
		in.IfNoneMatch = aws.String("*")
	default:
		in.IfMatch = replaces
	}
	_, err := s.client.PutObject(ctx, in)
	return awserr.From(err, "s3:PutObject", "object s3://"+s.bucket+"/"+key)
}
