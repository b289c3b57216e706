package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	smtypes "github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"
	"github.com/aws/smithy-go"
)

// These tests hold moto, as launcher.py corrects it, to what AWS does. They
// need no more than moto; each works in names or accounts of its own.

func motoEndpoint(t *testing.T) string {
	t.Helper()
	endpoint := os.Getenv("IAMKEYS_MOTO")
	if endpoint == "" {
		t.Skip("needs moto: run go run ./localcloud test")
	}
	return endpoint
}

// code is the AWS error code of a refusal, and empty for a success.
func code(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	if refusal, ok := errors.AsType[smithy.APIError](err); ok {
		return refusal.ErrorCode()
	}
	t.Fatalf("not an answer of AWS: %v", err)
	return ""
}

// A labelled secret with three versions, and what a test does with its labels.
type labels struct {
	client *secretsmanager.Client
	id     string
}

func labelled(t *testing.T, name string) labels {
	t.Helper()
	l := labels{secretsmanager.NewFromConfig(config(motoEndpoint(t), "test")), fmt.Sprintf("iamkeys/%s-%d", name, os.Getpid())}
	if _, err := l.client.CreateSecret(t.Context(), &secretsmanager.CreateSecretInput{Name: &l.id}); err != nil {
		t.Fatal(err)
	}
	return l
}

// version is the full ID of a version named in short; no name, no ID.
func version(short string) *string {
	if short == "" {
		return nil
	}
	return aws.String(short + strings.Repeat("-", 32-len(short)))
}

func (l labels) put(t *testing.T, short string, stages ...string) error {
	t.Helper()
	_, err := l.client.PutSecretValue(t.Context(), &secretsmanager.PutSecretValueInput{
		SecretId: &l.id, ClientRequestToken: version(short), SecretString: &short, VersionStages: stages})
	return err
}

func (l labels) move(t *testing.T, label, from, to string) error {
	t.Helper()
	_, err := l.client.UpdateSecretVersionStage(t.Context(), &secretsmanager.UpdateSecretVersionStageInput{
		SecretId: &l.id, VersionStage: &label, RemoveFromVersionId: version(from), MoveToVersionId: version(to)})
	return err
}

// in is where the labels are: "a: AWSCURRENT lock; b: AWSPREVIOUS".
func (l labels) in(t *testing.T) string {
	t.Helper()
	out, err := l.client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &l.id})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, id := range slices.Sorted(maps.Keys(out.VersionIdsToStages)) {
		all = append(all, strings.TrimRight(id, "-")+": "+strings.Join(slices.Sorted(slices.Values(out.VersionIdsToStages[id])), " "))
	}
	return strings.Join(all, "; ")
}

func TestMotoMovesLabelsAsAWS(t *testing.T) {
	l := labelled(t, "labels")
	steps := []struct {
		what string
		do   func() error
		code string
		then string
	}{
		{"the first version is current, whatever its label", func() error { return l.put(t, "a", "intent") }, "", "a: AWSCURRENT intent"},
		{"a label that stands nowhere", func() error { return l.move(t, "lock", "", "a") }, "", "a: AWSCURRENT intent lock"},
		{"where it stands already", func() error { return l.move(t, "lock", "", "a") }, "", "a: AWSCURRENT intent lock"},
		{"a put takes its labels from other versions", func() error { return l.put(t, "b", "intent") }, "", "a: AWSCURRENT lock; b: intent"},
		{"a label that stands elsewhere, unnamed", func() error { return l.move(t, "lock", "", "b") }, "InvalidParameterException", "a: AWSCURRENT lock; b: intent"},
		{"a label that stands elsewhere, another named", func() error { return l.move(t, "lock", "b", "b") }, "InvalidParameterException", "a: AWSCURRENT lock; b: intent"},
		{"to a version that is not there", func() error { return l.move(t, "lock", "a", "z") }, "InvalidParameterException", "a: AWSCURRENT lock; b: intent"},
		{"for whom names where it stands", func() error { return l.move(t, "lock", "a", "b") }, "", "a: AWSCURRENT; b: intent lock"},
		{"taken off where it does not stand", func() error { return l.move(t, "lock", "a", "") }, "InvalidParameterException", "a: AWSCURRENT; b: intent lock"},
		{"AWSCURRENT taken off", func() error { return l.move(t, "AWSCURRENT", "a", "") }, "InvalidParameterException", "a: AWSCURRENT; b: intent lock"},
		{"a put leaves other labels alone", func() error { return l.put(t, "c", "AWSCURRENT", "made") }, "", "a: AWSPREVIOUS; b: intent lock; c: AWSCURRENT made"},
		{"a repeated put changes nothing", func() error { return l.put(t, "c", "AWSCURRENT", "made", "more") }, "", "a: AWSPREVIOUS; b: intent lock; c: AWSCURRENT made"},
		{"taken off", func() error { return l.move(t, "lock", "b", "") }, "", "a: AWSPREVIOUS; b: intent; c: AWSCURRENT made"},
		{"a version without labels is deprecated", func() error { return l.move(t, "intent", "b", "") }, "", "a: AWSPREVIOUS; c: AWSCURRENT made"},
		{"AWSCURRENT goes back", func() error { return l.move(t, "AWSCURRENT", "c", "a") }, "", "a: AWSCURRENT; c: AWSPREVIOUS made"},
	}
	for _, s := range steps {
		if got := code(t, s.do()); got != s.code {
			t.Errorf("%s: got %q, want %q", s.what, got, s.code)
		}
		if got := l.in(t); got != s.then {
			t.Fatalf("%s:\ngot  %s\nwant %s", s.what, got, s.then)
		}
	}
	value, err := l.client.GetSecretValue(t.Context(), &secretsmanager.GetSecretValueInput{SecretId: &l.id})
	if err != nil || aws.ToString(value.SecretString) != "a" {
		t.Errorf("the current value: %v, %v", value, err)
	}
}

func TestMotoKeepsTwentyLabels(t *testing.T) {
	l := labelled(t, "full")
	for i := range 19 { // and AWSCURRENT
		if err := l.put(t, fmt.Sprint("v", i), fmt.Sprint("label-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := code(t, l.put(t, "one-more", "label-19")); got != "LimitExceededException" {
		t.Errorf("a put with the 21st label: %q", got)
	}
	if got := code(t, l.move(t, "label-19", "", "v3")); got != "LimitExceededException" {
		t.Errorf("a 21st label: %q", got)
	}
	if err := l.put(t, "a-known-label", "label-7"); err != nil {
		t.Errorf("a label that is there already: %v", err)
	}
}

func TestMotoTellsPrimaryRegion(t *testing.T) {
	l := labelled(t, "replicated")
	if err := l.put(t, "a", "AWSCURRENT"); err != nil {
		t.Fatal(err)
	}
	_, err := l.client.ReplicateSecretToRegions(t.Context(), &secretsmanager.ReplicateSecretToRegionsInput{
		SecretId: &l.id, AddReplicaRegions: []smtypes.ReplicaRegionType{{Region: aws.String("eu-west-1")}}})
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := config(motoEndpoint(t), "test")
	elsewhere.Region = "eu-west-1"
	replica := labels{secretsmanager.NewFromConfig(elsewhere), l.id}
	for _, there := range []labels{l, replica} { // AWS says it of the primary, too
		out, err := there.client.DescribeSecret(t.Context(), &secretsmanager.DescribeSecretInput{SecretId: &l.id})
		if err != nil || aws.ToString(out.PrimaryRegion) != region {
			t.Errorf("PrimaryRegion is %v (%v), want %s", out, err, region)
		}
	}
	if got := code(t, replica.put(t, "b", "AWSCURRENT")); got != "InvalidParameterException" {
		t.Errorf("a put in the replica: %q", got)
	}
	if got := code(t, replica.move(t, "lock", "", "a")); got != "InvalidParameterException" {
		t.Errorf("a label in the replica: %q", got)
	}
}
