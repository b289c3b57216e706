package lambdafn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"

	"iamkeys/pkg/awsconfig"
	"iamkeys/pkg/iamkeys"
)

// Settings are a function's settings, from its environment. Each is read, and
// checked, by the method that gives it: a function is held to those that it
// uses. What is wrong is collected for [Settings.Err].
type Settings struct {
	lookup  func(string) (string, bool)
	numbers map[string]int // those read, for the checks across them
	errs    []error
}

// Environment gives the settings in the process's environment.
func Environment() *Settings { return NewSettings(os.LookupEnv) }

// NewSettings gives the settings that lookup finds.
func NewSettings(lookup func(string) (string, bool)) *Settings {
	return &Settings{lookup: lookup, numbers: map[string]int{}}
}

// across are the checks across settings, each made where a function reads both.
var across = []struct {
	one, must, other, why string
	right                 func(one, other int) bool
}{
	{"WARN_AGE_DAYS", "must be less than", "MAX_AGE_DAYS", "keys are aging before they are overdue", func(warn, most int) bool { return warn < most }},
	{"MAX_WAIT_DAYS", "must be 340 at most together with", "SOAK_DAYS", "an execution lives for a year", func(wait, soak int) bool { return wait+soak <= 340 }},
	{"QUIET_HOURS", "must fit, with the 6 h that IAM may take to show a use, into the days of", "MAX_WAIT_DAYS", "else no key falls quiet while it is waited for", func(quiet, wait int) bool {
		return time.Duration(quiet)*time.Hour+iamkeys.LastUsedLag <= iamkeys.DayCount(wait)
	}},
	{"NOTICE_DAYS", "must be 340 at most together with", "RETIRE_SOAK_DAYS", "an execution lives for a year", func(notice, soak int) bool { return notice+soak <= 340 }},
}

// Err tells everything that is wrong with the settings read so far, nil when
// nothing is. Call it after the last is read and before the first event.
func (s *Settings) Err() error {
	errs := s.errs
	for _, c := range across {
		one, read := s.numbers[c.one]
		other, too := s.numbers[c.other]
		if read && too && !c.right(one, other) {
			errs = append(errs, fmt.Errorf("%s (%d) %s %s (%d): %s", c.one, one, c.must, c.other, other, c.why))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("settings of the function: %w", errors.Join(errs...))
}

// Log gives the function's logger, in the format and at the level that Lambda asks for.
func (s *Settings) Log() *slog.Logger { return logger() }

// AWS gives the SDK's configuration, from the variables that Lambda and the
// template set. The SDK's own way to find one, which also looks into files and
// asks other services for credentials, makes every binary a megabyte larger for
// what a function never has. An attempt at a call ends after 10 s, so that a function
// hears of an AWS that does not answer, and can name it, before its own timeout.
func (s *Settings) AWS() aws.Config {
	env, err := config.NewEnvConfig()
	switch {
	case err != nil:
		s.errs = append(s.errs, fmt.Errorf("environment of the AWS SDK: %w", err))
	case env.Region == "":
		s.refuse("AWS_REGION", "", false, "the Region")
	case !env.Credentials.HasKeys():
		s.refuse("AWS_ACCESS_KEY_ID, with AWS_SECRET_ACCESS_KEY,", "", false, "the function's credentials")
	}
	for _, variable := range os.Environ() {
		if name, endpoint, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "AWS_ENDPOINT_URL") && endpoint != "" && !near(endpoint) {
			s.refuse(name, endpoint, true, "empty, or the URL of a server on this machine or at a private address: a new secret would go wherever it says")
		}
	}
	cfg := aws.Config{
		Region:        env.Region,
		AppID:         "iamkeys-" + iamkeys.Version, // in the user agent, and so in CloudTrail
		Credentials:   aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return env.Credentials, nil }),
		HTTPClient:    awsconfig.HTTPClient(10 * time.Second),
		ConfigSources: []any{env}, // for AWS_ENDPOINT_URL_<service>, AWS_USE_FIPS_ENDPOINT and the like
	}
	if env.BaseEndpoint != "" { // AWS_ENDPOINT_URL; empty means AWS itself
		cfg.BaseEndpoint = &env.BaseEndpoint
	}
	return cfg
}

// near tells whether a URL leads to this machine or to a private address. Addresses of
// AWS's own are not asked for by URL: anyone may have a server below amazonaws.com.
func near(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if host == "localhost" || host == "host.docker.internal" { // the latter is Docker's name for the machine it runs on
		return true
	}
	address, err := netip.ParseAddr(host)
	address = address.Unmap()
	return err == nil && (address.IsLoopback() || address.IsPrivate())
}

// AccountID is the account's ID, twelve digits.
func (s *Settings) AccountID() string {
	return s.text("ACCOUNT_ID", `\d{12}`, "an account ID, 12 digits")
}

// Secrets says where secrets live: under SECRET_PREFIX, which ends in "/", with ARNs that
// begin with SECRETS_ARN.
func (s *Settings) Secrets() iamkeys.SecretNames {
	return iamkeys.SecretNames{
		Prefix: s.text("SECRET_PREFIX", `([A-Za-z0-9_+=.@-]+/)+`, `letters, digits, _ + = . @ - and /, ending in "/"`),
		ARN:    s.text("SECRETS_ARN", `arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d{12}:secret`, "an ARN without the secret's name"),
	}
}

// SecretKMSKeyARN is the ARN of the KMS key for new secrets, "" for the account's own.
func (s *Settings) SecretKMSKeyARN() string {
	return s.text("SECRET_KMS_KEY_ARN", `(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]+)?`, "empty or the ARN of a KMS key")
}

// UserPath is the IAM path of the users that may be changed.
func (s *Settings) UserPath() string {
	return s.text("USER_PATH", `/([A-Za-z0-9_+=,.@-]+/)*`, `an IAM path, beginning and ending in "/"`)
}

// QuietHours is how long a key must be idle before it may be switched off, hours.
func (s *Settings) QuietHours() int { return s.number("QUIET_HOURS", 24, 365*24, "hours") }

// PollHours is how long a rotation waits between two looks, hours.
func (s *Settings) PollHours() int { return s.number("POLL_HOURS", 1, 24, "hours") }

// MaxWaitDays is how long a rotation waits for the old key to fall quiet, days.
func (s *Settings) MaxWaitDays() int { return s.number("MAX_WAIT_DAYS", 1, 339, "days") }

// SoakDays is how long a key stays Inactive before it is deleted, days.
func (s *Settings) SoakDays() int { return s.number("SOAK_DAYS", 1, 339, "days") }

// Propagation is how long to wait after STS accepts a new key: PROPAGATION_SECONDS.
func (s *Settings) Propagation() time.Duration {
	return time.Duration(s.number("PROPAGATION_SECONDS", 0, 30, "seconds")) * time.Second
}

// NotificationTopicARN is the ARN of the SNS topic for reports and notices.
func (s *Settings) NotificationTopicARN() string {
	return s.text("NOTIFICATION_TOPIC_ARN", `arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+`, "the ARN of an SNS topic")
}

// SenderAddress is the address that owners get mail from, "" for no such mail.
func (s *Settings) SenderAddress() string {
	return s.text("SENDER_ADDRESS", `([^@\s<>",;]+@[A-Za-z0-9.-]+)?`, "empty or one mail address")
}

// OwnerMailDomains are the domains whose addresses get mail as owners, in lower case.
func (s *Settings) OwnerMailDomains() []string {
	all := s.text("OWNER_MAIL_DOMAINS", `([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(,[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)*)?`, "empty or domains such as example.com, separated by commas")
	if all == "" {
		if sender, _ := s.lookup("SENDER_ADDRESS"); sender != "" {
			s.errs = append(s.errs, errors.New("OWNER_MAIL_DOMAINS must name a domain when SENDER_ADDRESS is set: owners outside of these domains get no mail"))
		}
		return nil
	}
	return strings.Split(strings.ToLower(all), ",")
}

// ChatTopicARN is the ARN of the SNS topic for a chat, "" for none.
func (s *Settings) ChatTopicARN() string {
	return s.text("CHAT_TOPIC_ARN", `(arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_-]+)?`, "empty or the ARN of an SNS topic")
}

// Notify says when the audit sends its report.
func (s *Settings) Notify() string {
	return s.text("NOTIFY", `always|findings|changes|never`, "always, findings, changes or never")
}

// MaxAgeDays is the age from which an Active key is overdue, days.
func (s *Settings) MaxAgeDays() int { return s.number("MAX_AGE_DAYS", 1, 3650, "days") }

// WarnAgeDays is the age from which an Active key is aging, days; less than MaxAgeDays.
func (s *Settings) WarnAgeDays() int { return s.number("WARN_AGE_DAYS", 1, 3650, "days") }

// UnusedDays is the idle time from which an Active key is unused, days.
func (s *Settings) UnusedDays() int { return s.number("UNUSED_DAYS", 1, 3650, "days") }

// LingerDays is the age from which an Inactive key lingers, days.
func (s *Settings) LingerDays() int { return s.number("LINGER_DAYS", 1, 3650, "days") }

// OwnerTag is the key of the user tag that names the owner.
func (s *Settings) OwnerTag() string {
	return s.text("OWNER_TAG", `[A-Za-z0-9 _.:/=+@-]{1,128}`, "the key of an IAM user tag, 1 to 128 characters")
}

// ReportBucket is the name of the S3 bucket for reports.
func (s *Settings) ReportBucket() string {
	return s.text("REPORT_BUCKET", `[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]`, "the name of an S3 bucket")
}

// ReportWait is how long the audit waits for the credential report: REPORT_WAIT_SECONDS.
func (s *Settings) ReportWait() time.Duration {
	return time.Duration(s.number("REPORT_WAIT_SECONDS", 1, 600, "seconds")) * time.Second
}

// RotateAgeDays is the age from which the scheduled rotation takes a key, days.
func (s *Settings) RotateAgeDays() int { return s.number("ROTATE_AGE_DAYS", 1, 3650, "days") }

// MaxRotationsPerRun is how many rotations one scheduled run starts at most.
func (s *Settings) MaxRotationsPerRun() int {
	return s.number("MAX_ROTATIONS_PER_RUN", 1, 50, "rotations")
}

// RotationStateMachineARN is the ARN of the rotation's state machine.
func (s *Settings) RotationStateMachineARN() string {
	return s.text("ROTATION_STATE_MACHINE_ARN", `arn:aws[a-z-]*:states:[a-z0-9-]+:\d{12}:stateMachine:[A-Za-z0-9_-]+`, "the ARN of a state machine")
}

// RetirementStateMachineARN is the ARN of the retirement's state machine.
func (s *Settings) RetirementStateMachineARN() string {
	return s.text("RETIREMENT_STATE_MACHINE_ARN", `arn:aws[a-z-]*:states:[a-z0-9-]+:\d{12}:stateMachine:[A-Za-z0-9_-]+`, "the ARN of a state machine")
}

// RetirementMode says what becomes of unused keys on whose retirement no person insists.
func (s *Settings) RetirementMode() string {
	return s.text("RETIREMENT_MODE", `off|plan|apply`, "off, plan or apply")
}

// MaxRetirementsPerRun is how many retirements one scheduled run starts at most.
func (s *Settings) MaxRetirementsPerRun() int {
	return s.number("MAX_RETIREMENTS_PER_RUN", 1, 50, "retirements")
}

// RetireAfterDays is how long a key must be idle before it is retired, days.
func (s *Settings) RetireAfterDays() int { return s.number("RETIRE_AFTER_DAYS", 45, 365, "days") }

// NoticeDays is how long before a retired key is switched off its first warning is sent, days.
func (s *Settings) NoticeDays() int { return s.number("NOTICE_DAYS", 4, 339, "days") }

// RetireSoakDays is how long a retired key stays Inactive before it is deleted, days.
func (s *Settings) RetireSoakDays() int { return s.number("RETIRE_SOAK_DAYS", 1, 336, "days") }

// ActDays are the days on which retired keys are switched off.
func (s *Settings) ActDays() iamkeys.ActDays {
	const name, accepted = "ACT_DAYS", "weekday names with , and - as in cron, such as MON-THU"
	value := s.text(name, `[A-Za-z,-]{3,50}`, accepted)
	days, err := iamkeys.ParseActDays(value)
	if err != nil && value != "" {
		s.refuse(name, value, true, accepted)
	}
	return days
}

// MemberRole is the name of the role in every account of the organization, "" for an
// audit of this account alone.
func (s *Settings) MemberRole() string {
	return s.text("MEMBER_ROLE", `[A-Za-z0-9_+=,.@-]{0,64}`, "empty or the name of an IAM role, without its path")
}

// Partition is the partition of AWS that the stack is in, such as aws.
func (s *Settings) Partition() string {
	return s.text("PARTITION", `aws[a-z-]*`, "a partition, such as aws")
}

// RolePath is the path of the stack's and the members' roles.
func (s *Settings) RolePath() string {
	return s.text("ROLE_PATH", `/([A-Za-z0-9_+=,.@-]+/)*`, `an IAM path, beginning and ending in "/"`)
}

// ExternalID is what the member role's trust wants to hear: EXTERNAL_ID, "" for nothing.
func (s *Settings) ExternalID() string {
	return s.text("EXTERNAL_ID", `([A-Za-z0-9_+=,.@:/-]{2,1000})?`, "empty or an external ID, 2 to 1,000 characters")
}

// SecurityHub tells whether findings are sent to AWS Security Hub: SECURITY_HUB, on or off.
func (s *Settings) SecurityHub() bool {
	return s.text("SECURITY_HUB", `on|off`, "on or off") == "on"
}

// ExcludeAccounts are the accounts of the organization that are not examined.
func (s *Settings) ExcludeAccounts() []string {
	all := s.text("EXCLUDE_ACCOUNTS", `(\d{12}(,\d{12})*)?`, "empty or account IDs of 12 digits, separated by commas")
	if all == "" {
		return nil
	}
	return strings.Split(all, ",")
}

// AccountsAtOnce is how many accounts are examined at a time.
func (s *Settings) AccountsAtOnce() int { return s.number("ACCOUNTS_AT_ONCE", 1, 1000, "accounts") }

// ExposureMode says what is done about a key that AWS found in public.
func (s *Settings) ExposureMode() string {
	return s.text("EXPOSURE_MODE", `off|tell|deactivate`, "off, tell or deactivate")
}

// Zone is the time zone in which people are told times: SCHEDULE_TIMEZONE. A main that
// reads it imports time/tzdata, since Lambda's system may hold no time zones.
func (s *Settings) Zone() *time.Location {
	const name, accepted = "SCHEDULE_TIMEZONE", "a time zone of the IANA database, such as Europe/Berlin"
	value := s.text(name, `[A-Za-z0-9_+/-]{1,50}`, accepted)
	zone, err := time.LoadLocation(value)
	if err != nil && value != "" {
		s.refuse(name, value, true, accepted)
	}
	return zone
}

// text reads a variable that must match the pattern as a whole.
func (s *Settings) text(name, pattern, accepted string) string {
	value, ok := s.lookup(name)
	if !ok || !regexp.MustCompile(`^(?:`+pattern+`)$`).MatchString(value) {
		s.refuse(name, value, ok, accepted)
	}
	return value
}

// number reads a whole number from least to most.
func (s *Settings) number(name string, least, most int, unit string) int {
	value, ok := s.lookup(name)
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if !ok || err != nil || n < least || n > most {
		s.refuse(name, value, ok, fmt.Sprintf("%d to %d %s", least, most, unit))
		return n
	}
	s.numbers[name] = n
	return n
}

func (s *Settings) refuse(name, value string, set bool, accepted string) {
	if !set {
		s.errs = append(s.errs, fmt.Errorf("%s is not set; it must be %s", name, accepted))
		return
	}
	s.errs = append(s.errs, fmt.Errorf("%s must be %s; got %s", name, accepted, shorten(value)))
}
