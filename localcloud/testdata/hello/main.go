// Hello is the smallest Lambda function in Go, which the benchmark starts
// beside the project's own.
package main

import (
	"context"

	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(func(context.Context) (string, error) { return "hello", nil })
}
