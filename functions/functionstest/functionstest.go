// Package functionstest puts every function together once, for all tests that need
// one: with the settings that template.yaml gives it, and with whatever stands for
// AWS in the test.
//
//	stack := functionstest.New(nil) // or other values of parameters than the defaults
//	plan := stack.Function("plan", functionstest.Surroundings{
//		Port: func(string) any { return account.Start() }, // one fake that implements every port
//		Now:  account.Now, Sleep: account.Sleep, Log: log,
//	})
//	answer, err := plan.Handler.Invoke(ctx, event) // as Lambda does, within plan.Timeout
//
// A new function is one row of [functions]: what its main sets that is neither a port
// nor a clock. Ports and clocks are filled in by the names of the operation's fields.
package functionstest

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/notice"
	"iamkeys/pkg/lambdafn"
	"iamkeys/pkg/render"
)

// functions are all functions by folder.
var functions = map[string]row{
	"list":     function(func(env *lambdafn.Settings) iamkeys.List { return iamkeys.List{} }),
	"lastused": function(func(env *lambdafn.Settings) iamkeys.FindLastUsed { return iamkeys.FindLastUsed{} }),
	"create":   function(func(env *lambdafn.Settings) iamkeys.Create { return create(env) }),
	"deactivate": function(func(env *lambdafn.Settings) iamkeys.Deactivate {
		return iamkeys.Deactivate{Secrets: env.Secrets(), QuietHours: env.QuietHours()}
	}),
	"activate": function(func(env *lambdafn.Settings) iamkeys.Activate { return iamkeys.Activate{} }),
	"delete":   function(func(env *lambdafn.Settings) iamkeys.Delete { return iamkeys.Delete{Secrets: env.Secrets()} }),
	"audit": scheduled(func(env *lambdafn.Settings) audit.Audit {
		return audit.Audit{
			SNS:       reports(env),
			Inventory: audit.TakeInventory{ReportWait: env.ReportWait()}, Render: audit.Renderer{Text: render.Text, CSV: render.CSV, HTML: render.HTML}, Message: notice.Report(render.Text),
			Region: "eu-west-1", SendsFindings: env.SecurityHub(),
			Role:    audit.MemberRole{Partition: env.Partition(), Path: env.RolePath(), Name: env.MemberRole(), ExternalID: env.ExternalID()},
			Account: env.AccountID(), Bucket: env.ReportBucket(), OwnerTag: env.OwnerTag(), Tell: audit.Tell(env.Notify()), RequestID: lambdafn.RequestID,
			Thresholds: audit.Thresholds{UnusedDays: env.UnusedDays(), MaxAgeDays: env.MaxAgeDays(), WarnAgeDays: env.WarnAgeDays(), LingerDays: env.LingerDays(), MaxWaitDays: env.MaxWaitDays()},
		}
	}, func(at time.Time) audit.Input { return audit.Input{EventTime: at} }),
	"accounts": function(func(env *lambdafn.Settings) audit.Accounts {
		return audit.Accounts{Account: env.AccountID(), Bucket: env.ReportBucket(), Exclude: env.ExcludeAccounts(), AtOnce: env.AccountsAtOnce()}
	}),
	"merge": function(func(env *lambdafn.Settings) audit.Merge {
		return audit.Merge{
			SNS:     reports(env),
			Render:  audit.OrganizationRenderer{Text: render.OrganizationText, HTML: render.OrganizationHTML, CSV: render.OrganizationCSV},
			Message: notice.Organization(render.OrganizationText), Spool: lambdafn.Spool, Account: env.AccountID(), Bucket: env.ReportBucket(), Tell: audit.Tell(env.Notify()),
		}
	}),
	"due": function(func(env *lambdafn.Settings) audit.Due {
		return audit.Due{
			Nominator: audit.Nominator{Inventory: audit.TakeInventory{ReportWait: env.ReportWait()}, Secrets: env.Secrets(), OwnerTag: env.OwnerTag(), Most: env.MaxRotationsPerRun()},
			UserPath:  env.UserPath(), UnusedDays: env.UnusedDays(), RotateAgeDays: env.RotateAgeDays(), RetireAfterDays: env.RetireAfterDays(),
		}
	}),
	"unused": function(func(env *lambdafn.Settings) audit.FindUnused {
		return audit.FindUnused{
			Nominator: audit.Nominator{Inventory: audit.TakeInventory{ReportWait: env.ReportWait()}, Secrets: env.Secrets(), OwnerTag: env.OwnerTag(), Most: env.MaxRetirementsPerRun()},
			Rule:      iamkeys.RetirementRule{UserPath: env.UserPath(), AfterDays: env.RetireAfterDays(), Secrets: env.Secrets()},
		}
	}),
	"plan": function(func(env *lambdafn.Settings) iamkeys.Plan {
		return iamkeys.Plan{Secrets: env.Secrets(), OwnerTag: env.OwnerTag(), QuietHours: env.QuietHours(), PollHours: env.PollHours(), MaxWaitDays: env.MaxWaitDays(), SoakDays: env.SoakDays()}
	}),
	"digest": function(func(env *lambdafn.Settings) notice.Digest {
		env.Notify() // never: no mails
		return notice.Digest{Send: send(env), Bucket: env.ReportBucket(), OwnerTag: env.OwnerTag()}
	}),
	"exposed": function(func(env *lambdafn.Settings) iamkeys.Exposed {
		return iamkeys.Exposed{Account: env.AccountID(), Mode: iamkeys.ExposureMode(env.ExposureMode()), UserPath: env.UserPath(), OwnerTag: env.OwnerTag()}
	}),
	"retire": function(func(env *lambdafn.Settings) iamkeys.Retire {
		return iamkeys.Retire{
			Rule: iamkeys.RetirementRule{UserPath: env.UserPath(), AfterDays: env.RetireAfterDays(), Secrets: env.Secrets()}, OwnerTag: env.OwnerTag(), Apply: env.RetirementMode() == "apply",
			NoticeDays: env.NoticeDays(), SoakDays: env.RetireSoakDays(), ActDays: env.ActDays(), Zone: env.Zone(),
		}
	}),
	"notify": function(func(env *lambdafn.Settings) notice.Notify {
		return notice.Notify{Send: send(env), Account: env.AccountID(), Zone: env.Zone()}
	}),
}

func create(env *lambdafn.Settings) iamkeys.Create {
	env.SecretKMSKeyARN() // the adapter's
	return iamkeys.Create{Secrets: env.Secrets(), Propagation: env.Propagation()}
}

// reports is how reports are sent: no owner has a mail of a whole report.
func reports(env *lambdafn.Settings) notice.Send {
	env.ChatTopicARN() // the adapter's
	return notice.Send{}
}

func send(env *lambdafn.Settings) notice.Send {
	env.SenderAddress() // the adapters'
	env.ReportBucket()
	env.ChatTopicARN()
	return notice.Send{Owners: notice.Owners{Domains: env.OwnerMailDomains()}}
}

// A row is one function.
type row struct {
	operation func(env *lambdafn.Settings) any // its operation, without ports and clocks
	handler   func(operation any, log *slog.Logger) lambda.Handler
}

// An operation is what a function runs.
type operation[In, Out any] interface {
	Run(context.Context, In) (Out, error)
}

// function is the row of a function whose events are its operation's input.
func function[O operation[In, Out], In lambdafn.Input, Out any](settings func(env *lambdafn.Settings) O) row {
	return row{
		func(env *lambdafn.Settings) any { return settings(env) },
		func(o any, log *slog.Logger) lambda.Handler { return lambdafn.Handler(o.(O).Run, log) },
	}
}

// scheduled is the row of a function that schedules start as well.
func scheduled[O operation[In, Out], In lambdafn.Input, Out any](settings func(env *lambdafn.Settings) O, event func(time.Time) In) row {
	return row{
		func(env *lambdafn.Settings) any { return settings(env) },
		func(o any, log *slog.Logger) lambda.Handler { return lambdafn.ScheduledHandler(o.(O).Run, event, log) },
	}
}

// Surroundings are what a function stands in.
type Surroundings struct {
	Port  func(service string) any // gives the port of an operation's field, such as IAM
	Now   func() time.Time
	Sleep func(context.Context, time.Duration) error
	Log   *slog.Logger
	Calls func() int                         // made to IAM so far; nil for none
	Emit  func([]audit.Metric)               // nil to drop metrics
	As    func(iamkeys.Session) audit.Access // in other accounts; nil for none
}

// A Function is one that is ready to be invoked.
type Function struct {
	Operation any // such as an iamkeys.Create
	Handler   lambda.Handler
	Timeout   time.Duration
}

// A Stack is the functions of one deployment of template.yaml. It is made once for
// many invocations: reading settings takes longer than most functions do.
type Stack struct {
	Deployment
	ready map[string]func() (any, time.Duration) // operation, without ports and clocks, and timeout
}

// New gives the stack with these parameters, the others having their defaults.
func New(parameters map[string]string) *Stack {
	s := &Stack{Deployment{Load("template.yaml"), parameters}, map[string]func() (any, time.Duration){}}
	for name, r := range functions {
		s.ready[name] = sync.OnceValues(func() (any, time.Duration) {
			env := s.Environment(name)
			settings := lambdafn.NewSettings(func(variable string) (string, bool) { v, ok := env[variable]; return v, ok })
			o := r.operation(settings)
			if err := settings.Err(); err != nil {
				panic(fmt.Sprintf("%s: %v", name, err))
			}
			return o, s.Timeout(name)
		})
	}
	return s
}

// Function puts a function together.
func (s *Stack) Function(name string, around Surroundings) Function {
	ready, ok := s.ready[name]
	if !ok {
		panic("no function " + name)
	}
	settled, timeout := ready()
	port := around.Port
	around.Port = func(service string) any {
		if service == "Chat" && s.Parameter("Chat") == "off" || service == "SES" && s.Parameter("SenderAddress") == "" {
			return nil
		}
		return port(service)
	}
	o := reflect.New(reflect.TypeOf(settled)).Elem()
	o.Set(reflect.ValueOf(settled))
	around.fill(o)
	return Function{o.Interface(), functions[name].handler(o.Interface(), around.Log), timeout}
}

// Operations gives every function's operation with its settings alone.
func (s *Stack) Operations() map[string]any {
	all := map[string]any{}
	for name, ready := range s.ready {
		all[name], _ = ready()
	}
	return all
}

// Getters gives the methods of [lambdafn.Settings] by which mains read the environment,
// and the variables that each reads.
func Getters() map[string][]string {
	found := map[string][]string{}
	settings := reflect.TypeFor[*lambdafn.Settings]()
	for i := range settings.NumMethod() {
		method := settings.Method(i)
		if slices.Contains([]string{"AWS", "Log", "Err"}, method.Name) {
			continue // of the process, not of the template
		}
		method.Func.Call([]reflect.Value{reflect.ValueOf(lambdafn.NewSettings(func(variable string) (string, bool) {
			found[method.Name] = append(found[method.Name], variable)
			return "", false
		}))})
	}
	return found
}

// core is where the operations and their parts are declared.
const core = "iamkeys/pkg/iamkeys"

// Services are the names that an operation's ports have as its fields, and of each the
// prefix of its actions and its package in the SDK.
var Services = map[string]struct{ Prefix, SDK string }{
	"IAM":            {"iam", "iam"},
	"SecretsManager": {"secretsmanager", "secretsmanager"},
	"STS":            {"sts", "sts"},
	"S3":             {"s3", "s3"},
	"SNS":            {"sns", "sns"},
	"Chat":           {"sns", "sns"}, // the chat's topic
	"SES":            {"ses", "sesv2"},
	"StepFunctions":  {"states", "sfn"},
	"Organizations":  {"organizations", "organizations"},
	"SecurityHub":    {"securityhub", "securityhub"},
}

// fill sets ports and clocks, in the operation and in what it is made of.
func (s Surroundings) fill(o reflect.Value) {
	others := map[string]any{"Now": s.Now, "Sleep": s.Sleep, "Log": s.Log, "Calls": s.Calls, "Emit": s.Emit, "As": s.As}
	if s.Calls == nil {
		others["Calls"] = func() int { return 0 }
	}
	if s.Emit == nil {
		others["Emit"] = func([]audit.Metric) {}
	}
	if s.As == nil {
		others["As"] = func(iamkeys.Session) audit.Access { panic("no other account") }
	}
	for i := range o.NumField() {
		field, value := o.Type().Field(i), o.Field(i)
		_, port := Services[field.Name]
		other, is := others[field.Name]
		switch {
		case port && field.Type.Kind() == reflect.Interface && !value.IsNil(): // one of the core's own, with ports
			inner := reflect.New(value.Elem().Type()).Elem()
			inner.Set(value.Elem())
			s.fill(inner)
			value.Set(inner)
		case port && field.Type.Kind() == reflect.Interface:
			if p := s.Port(field.Name); p != nil { // nil: a parameter switches it off
				value.Set(reflect.ValueOf(p))
			}
		case is:
			value.Set(reflect.ValueOf(other))
		case field.Type.Kind() == reflect.Struct && strings.HasPrefix(field.Type.PkgPath(), core):
			s.fill(value)
		}
	}
}

// Ports gives the interfaces that an operation, and what it is made of, asks AWS by,
// by service.
func Ports(operation any) map[string][]reflect.Type {
	found := map[string][]reflect.Type{}
	var look func(reflect.Type)
	look = func(o reflect.Type) {
		for i := range o.NumField() {
			f := o.Field(i)
			switch _, port := Services[f.Name]; {
			case port && f.Type.Kind() == reflect.Interface:
				found[f.Name] = append(found[f.Name], f.Type)
			case f.Type.Kind() == reflect.Struct && strings.HasPrefix(f.Type.PkgPath(), core):
				look(f.Type)
			}
		}
	}
	look(reflect.TypeOf(operation))
	return found
}
