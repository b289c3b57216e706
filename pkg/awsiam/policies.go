package awsiam

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"iamkeys/pkg/awserr"
	"iamkeys/pkg/iamkeys"
)

var _ iamkeys.PowerIAM = (*IAM)(nil)

// ListAttachedUserPolicies implements the port.
func (i *IAM) ListAttachedUserPolicies(ctx context.Context, userName string) (arns []string, err error) {
	const action = "iam:ListAttachedUserPolicies"
	if err := named(userName); err != nil {
		return nil, err
	}
	in := &iam.ListAttachedUserPoliciesInput{UserName: &userName}
	for {
		out, err := i.client.ListAttachedUserPolicies(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, "user "+userName)
		}
		arns = append(arns, policies(out.AttachedPolicies)...)
		if !out.IsTruncated {
			return arns, nil
		}
		if in.Marker, err = next(in.Marker, out.Marker, action, "user "+userName); err != nil {
			return nil, err
		}
	}
}

// ListGroupsForUser implements the port.
func (i *IAM) ListGroupsForUser(ctx context.Context, userName string) (groups []string, err error) {
	const action = "iam:ListGroupsForUser"
	if err := named(userName); err != nil {
		return nil, err
	}
	in := &iam.ListGroupsForUserInput{UserName: &userName}
	for {
		out, err := i.client.ListGroupsForUser(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, "user "+userName)
		}
		for _, g := range out.Groups {
			if aws.ToString(g.GroupName) == "" {
				return nil, awserr.Incomplete(action, "user "+userName, "a group's name")
			}
			groups = append(groups, *g.GroupName)
		}
		if !out.IsTruncated {
			return groups, nil
		}
		if in.Marker, err = next(in.Marker, out.Marker, action, "user "+userName); err != nil {
			return nil, err
		}
	}
}

// ListAttachedGroupPolicies implements the port.
func (i *IAM) ListAttachedGroupPolicies(ctx context.Context, group string) (arns []string, err error) {
	const action = "iam:ListAttachedGroupPolicies"
	in := &iam.ListAttachedGroupPoliciesInput{GroupName: &group}
	for {
		out, err := i.client.ListAttachedGroupPolicies(ctx, in)
		if err != nil {
			return nil, awserr.From(err, action, "group "+group)
		}
		arns = append(arns, policies(out.AttachedPolicies)...)
		if !out.IsTruncated {
			return arns, nil
		}
		if in.Marker, err = next(in.Marker, out.Marker, action, "group "+group); err != nil {
			return nil, err
		}
	}
}
