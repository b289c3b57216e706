package functionstest_test

import (
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/iamkeystest"
)

// A field that nobody sets would be found by the function that a test first runs into it.
func TestEveryFieldIsSet(t *testing.T) {
	o := iamkeystest.NewOrganization()
	stack := functionstest.New(map[string]string{"SecretPrefix": "team/", "SenderAddress": "iamkeys@example.com", "OwnerMailDomains": "example.com", "Chat": "on"})
	for name := range stack.Operations() {
		f := stack.Function(name, functionstest.Surroundings{Port: func(string) any { return o.Start() }, Now: o.Hub.Now, Sleep: o.Sleep, Log: slog.New(slog.DiscardHandler)})
		set(t, name, reflect.ValueOf(f.Operation))
		if f.Timeout == 0 || f.Handler == nil {
			t.Errorf("%s has the timeout %v and the handler %v", name, f.Timeout, f.Handler)
		}
	}
	if prefix := stack.Operations()["create"].(iamkeys.Create).Secrets.Prefix; prefix != "team/" {
		t.Errorf("a parameter is %q in the operation, want team/", prefix)
	}
}

func set(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Struct:
		if strings.HasPrefix(v.Type().PkgPath(), "iamkeys/") {
			for i := range v.NumField() {
				set(t, path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	case reflect.Interface, reflect.Func, reflect.Pointer:
		if v.IsNil() {
			t.Errorf("%s is not set", path)
		}
	}
}

func TestDeployment(t *testing.T) {
	d := functionstest.New(map[string]string{"RotationMode": "apply", "SecretKmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/1"}).Deployment
	if got := d.Environment("create"); got["SECRET_KMS_KEY_ARN"] != "arn:aws:kms:eu-west-1:123456789012:key/1" || got["SECRET_PREFIX"] != "iamkeys/" {
		t.Errorf("create's environment is %v", got)
	}
	got := d.Substitutions("RotateDueStateMachine")
	if got["DueFunctionArn"] != "due" || got["RotationMode"] != "apply" || !strings.HasPrefix(got["RotationStateMachineArn"], "arn:aws:states:eu-west-1:123456789012:stateMachine:") {
		t.Errorf("the substitutions are %v", got)
	}
	if !d.Holds("HasSecretKmsKey") || d.Holds("HasNotificationEmail") {
		t.Error("conditions hold otherwise than in CloudFormation")
	}
}
