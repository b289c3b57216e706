package lambdafn_test

import (
	"maps"
	"reflect"
	"strings"
	"testing"

	"iamkeys/functions/functionstest"
	"iamkeys/pkg/lambdafn"
)

// good are settings as the template gives them by default, of all functions.
func good() map[string]string {
	all := map[string]string{}
	for name := range functionstest.New(nil).Functions() {
		maps.Copy(all, functionstest.New(nil).Environment(name))
	}
	delete(all, "AWS_ENDPOINT_URL") // the SDK's
	delete(all, "AWS_USE_FIPS_ENDPOINT")
	return all
}

// readAll reads every setting there is.
func readAll(environment map[string]string) error {
	s := lambdafn.NewSettings(func(name string) (string, bool) { v, ok := environment[name]; return v, ok })
	for method := range functionstest.Getters() {
		reflect.ValueOf(s).MethodByName(method).Call(nil)
	}
	return s.Err()
}

func TestSettings(t *testing.T) {
	if err := readAll(good()); err != nil {
		t.Errorf("the template's defaults are refused: %v", err)
	}
	for name := range good() {
		without := good()
		delete(without, name)
		if err := readAll(without); err == nil || !strings.Contains(err.Error(), name+" is not set") {
			t.Errorf("without %s: %v", name, err)
		}
	}
	accepted := map[string][]string{
		"MEMBER_ROLE": {"", "iamkeys-member"}, "EXTERNAL_ID": {"", "0f/our:word"}, "PARTITION": {"aws-us-gov"}, "SECURITY_HUB": {"on"}, "ROLE_PATH": {"/team/"},
		"EXCLUDE_ACCOUNTS": {"", "123456789012", "123456789012,210987654321"}, "ACCOUNTS_AT_ONCE": {"1", "1000"},
		"SECRET_PREFIX": {"a/", "team/ci/"}, "USER_PATH": {"/ci/", "/a/b/"}, "QUIET_HOURS": {"24", "1074"}, "PROPAGATION_SECONDS": {"0"},
		"SECRET_KMS_KEY_ARN": {"arn:aws:kms:eu-west-1:123456789012:key/1-2-3", "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-1"},
		"WARN_AGE_DAYS":      {"89"}, "POLL_HOURS": {"24"}, "MAX_WAIT_DAYS": {"10", "310"}, "SOAK_DAYS": {"295"}, "NOTIFY": {"never"},
		"RETIREMENT_MODE": {"off", "plan", "apply"}, "RETIRE_AFTER_DAYS": {"45", "365"}, "NOTICE_DAYS": {"4", "250"}, "RETIRE_SOAK_DAYS": {"1", "326"}, "ACT_DAYS": {"mon", "MON,WED", "SAT-TUE,THU"},
	}
	refused := map[string][]string{
		"MEMBER_ROLE": {"team/iamkeys-member", "arn:aws:iam::1:role/x"}, "EXTERNAL_ID": {"x", "a b"}, "PARTITION": {"", "azure"}, "SECURITY_HUB": {"", "yes"}, "ROLE_PATH": {"", "team/"},
		"EXCLUDE_ACCOUNTS": {"1234", "123456789012,", "123456789012, 210987654321"}, "ACCOUNTS_AT_ONCE": {"0", "1001", ""},
		"ACCOUNT_ID": {"", "12345678901", "x123456789012"}, "SECRET_PREFIX": {"", "iamkeys", "/", "a b/", "iamkeys/\n"}, "SECRETS_ARN": {"", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:x"}, "USER_PATH": {"", "ci/", "/ci"},
		"SECRET_KMS_KEY_ARN": {"alias/a", "arn:aws:kms:eu-west-1:123456789012:alias/a"}, "QUIET_HOURS": {"", "-1", "23", "1075", "8761", "1.5", "many"},
		"POLL_HOURS": {"0", "25"}, "MAX_WAIT_DAYS": {"0", "340", "311", "9"}, "SOAK_DAYS": {"0", "340", "296"}, "PROPAGATION_SECONDS": {"-1", "31"},
		"NOTIFICATION_TOPIC_ARN": {"", "topic"}, "NOTIFY": {"", "Always", "always|never"}, "MAX_AGE_DAYS": {"0", "75"}, "WARN_AGE_DAYS": {"90", "91"},
		"SCHEDULE_TIMEZONE": {"", "Mars/Olympus"}, "UNUSED_DAYS": {"0"}, "LINGER_DAYS": {"0"}, "OWNER_TAG": {""}, "REPORT_BUCKET": {"", "Bucket"}, "REPORT_WAIT_SECONDS": {"0", "601"},
		"ROTATE_AGE_DAYS": {"0"}, "MAX_ROTATIONS_PER_RUN": {"0", "51"}, "MAX_RETIREMENTS_PER_RUN": {"0", "51"}, "RETIREMENT_MODE": {"", "on"}, "RETIRE_AFTER_DAYS": {"44", "366"},
		"NOTICE_DAYS": {"3", "251"}, "RETIRE_SOAK_DAYS": {"0", "327"}, "ACT_DAYS": {"", "MON-", "1-5", "MON,,TUE", "WEEKDAYS"}, "RETIREMENT_STATE_MACHINE_ARN": {"", "retirement"},
		"ROTATION_STATE_MACHINE_ARN": {"", "arn:aws:lambda:eu-west-1:123456789012:function:f"},
	}
	for name, values := range accepted {
		for _, value := range values {
			changed := good()
			changed[name] = value
			if err := readAll(changed); err != nil {
				t.Errorf("%s=%q is refused: %v", name, value, err)
			}
		}
	}
	for name, values := range refused {
		for _, value := range values {
			changed := good()
			changed[name] = value
			if err := readAll(changed); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s=%q: got %v, want an error naming it", name, value, err)
			}
		}
	}
}

// A function is held to the settings that it uses, and hears of all that is wrong at once.
func TestSettingsErr(t *testing.T) {
	s := lambdafn.NewSettings(func(name string) (string, bool) { return "x", name != "QUIET_HOURS" })
	s.QuietHours()
	s.MaxAgeDays()
	err := s.Err()
	if err == nil || !strings.Contains(err.Error(), "QUIET_HOURS is not set") || !strings.Contains(err.Error(), `MAX_AGE_DAYS must be 1 to 3650 days; got "x"`) || strings.Contains(err.Error(), "SECRET_PREFIX") {
		t.Errorf("got %v", err)
	}
}

// Configuration is as powerful as code: with an endpoint of somebody else's, a function
// would hand new secrets over to it.
func TestEndpoints(t *testing.T) {
	t.Setenv("AWS_REGION", "eu-west-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "function")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "function")
	for endpoint, accepted := range map[string]bool{
		"": true, "http://127.0.0.1:4566": true, "http://localhost:4566": true, "http://[::1]:4566": true, "http://172.17.0.1:4566": true, "http://10.1.2.3": true, "http://192.168.1.1": true,
		"http://host.docker.internal:4566": true, "https://[fd00::1]": true,
		"https://evil.example": false, "https://203.0.113.1": false, "https://abc.execute-api.eu-west-1.amazonaws.com": false, "https://secretsmanager.eu-west-1.amazonaws.com": false,
		"http://127.0.0.1.evil.example": false, "http://127.0.0.1@evil.example": false, "http://localhost.evil.example": false, "http://2130706433": false, "http://169.254.169.254": false,
		"https://[::ffff:203.0.113.1]": false, "evil.example": false, "://": false,
	} {
		for _, name := range []string{"AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL_ANYTHING"} {
			t.Run(name+" "+endpoint, func(t *testing.T) {
				t.Setenv(name, endpoint)
				s := lambdafn.Environment()
				s.AWS()
				if err := s.Err(); (err == nil) != accepted || err != nil && !strings.Contains(err.Error(), name) {
					t.Errorf("%s=%s: %v, want it accepted: %t", name, endpoint, err, accepted)
				}
			})
		}
	}
}
