package functionstest

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goccy/go-yaml"
	yamlast "github.com/goccy/go-yaml/ast"
	yamlparser "github.com/goccy/go-yaml/parser"
)

// An Object is a mapping of the template.
type Object = map[string]any

// A Template is template.yaml, or another one, with !Ref and the like in their long
// form. Nobody changes it: tests share one.
type Template struct {
	Object
	Text string
}

// Load reads a template at the root of the repository, such as template.yaml, once.
func Load(name string) Template { return loaded(name) }

var loaded = func() func(string) Template {
	var mutex sync.Mutex
	read := map[string]Template{}
	return func(name string) Template {
		mutex.Lock()
		defer mutex.Unlock()
		if _, ok := read[name]; !ok {
			read[name] = load(filepath.Join(Root(), name))
		}
		return read[name]
	}
}()

// Root gives the repository's root, above the folder in which go test runs.
func Root() string {
	dir, err := os.Getwd()
	for ; err == nil; dir = filepath.Dir(dir) {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			err = fmt.Errorf("no go.mod above the working folder")
		}
	}
	panic(err)
}

func load(path string) Template {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	file, err := yamlparser.ParseBytes(text, 0)
	if err != nil {
		panic(err)
	}
	return Template{fromYAML(file.Docs[0].Body).(Object), string(text)}
}

func fromYAML(n yamlast.Node) any {
	switch n := n.(type) {
	case *yamlast.TagNode:
		name, value := strings.TrimPrefix(n.Start.Value, "!"), fromYAML(n.Value)
		switch name {
		case "Ref", "Condition":
			return Object{name: value}
		}
		return Object{"Fn::" + name: value}
	case *yamlast.MappingNode:
		m := Object{}
		for _, v := range n.Values {
			m[fromYAML(v.Key).(string)] = fromYAML(v.Value)
		}
		return m
	case *yamlast.MappingValueNode:
		return Object{fromYAML(n.Key).(string): fromYAML(n.Value)}
	case *yamlast.SequenceNode:
		s := []any{}
		for _, v := range n.Values {
			s = append(s, fromYAML(v))
		}
		return s
	}
	var value any
	if err := yaml.NodeToValue(n, &value); err != nil {
		panic(err)
	}
	switch v := value.(type) {
	case uint64:
		return int(v)
	case int64:
		return int(v)
	}
	return value
}

// At follows the names into nested objects; nil where they lead nowhere.
func At(v any, names ...string) any {
	for _, name := range names {
		o, _ := v.(Object)
		v = o[name]
	}
	return v
}

// List gives a value that may be one or several.
func List(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// Resources gives the properties of all resources of a type, by logical ID.
func (t Template) Resources(kind string) map[string]Object {
	found := map[string]Object{}
	for id, r := range At(t.Object, "Resources").(Object) {
		if At(r, "Type") == kind {
			properties, _ := At(r, "Properties").(Object)
			found[id] = properties
		}
	}
	return found
}

// Functions gives the functions' properties by folder, such as lastused.
func (t Template) Functions() map[string]Object {
	found := map[string]Object{}
	for id, properties := range t.Resources("AWS::Serverless::Function") {
		found[Folder(id)] = properties
	}
	return found
}

// Folder gives the folder of a function by its logical ID: lastused of LastUsedFunction.
func Folder(logicalID string) string {
	return strings.ToLower(strings.TrimSuffix(logicalID, "Function"))
}

// Timeout gives a function's timeout.
func (t Template) Timeout(folder string) time.Duration {
	seconds, _ := At(t.Functions()[folder], "Timeout").(int)
	return time.Duration(seconds) * time.Second
}

// A Deployment is the template with the values of its parameters, as CloudFormation
// fills them in: stack iamkeys of account 123456789012 in eu-west-1. A resource's
// Ref is its name, or an ARN where CloudFormation gives one.
type Deployment struct {
	Template
	Parameters map[string]string // over the defaults
}

// Environment gives the environment variables of a function.
func (d Deployment) Environment(folder string) map[string]string {
	variables := map[string]string{}
	for _, from := range []any{At(d.Object, "Globals", "Function"), d.Functions()[folder]} {
		set, _ := At(from, "Environment", "Variables").(Object)
		for name, value := range set {
			variables[name] = d.text(value)
		}
	}
	return variables
}

// Substitutions gives what the template fills into a workflow's definition: a
// function's ARN is its folder, such as lastused.
func (d Deployment) Substitutions(logicalID string) map[string]string {
	filled := map[string]string{}
	set, _ := At(d.Object, "Resources", logicalID, "Properties", "DefinitionSubstitutions").(Object)
	for name, value := range set {
		if id, ok := strings.CutSuffix(fmt.Sprint(At(value, "Fn::GetAtt")), "Function.Arn"); ok {
			filled[name] = Folder(id)
			continue
		}
		filled[name] = d.text(value)
	}
	return filled
}

// Parameter gives a parameter's value.
func (d Deployment) Parameter(name string) string {
	if value, ok := d.Parameters[name]; ok {
		return value
	}
	return fmt.Sprint(At(d.Object, "Parameters", name, "Default"))
}

// pseudo are CloudFormation's own parameters.
var pseudo = map[string]string{
	"AWS::AccountId": "123456789012", "AWS::Partition": "aws", "AWS::Region": "eu-west-1", "AWS::StackName": "iamkeys", "AWS::URLSuffix": "amazonaws.com", "AWS::NoValue": "",
}

var inText = regexp.MustCompile(`\$\{([^}!]+)\}`)

// text gives the text that an expression stands for.
func (d Deployment) text(value any) string {
	o, ok := value.(Object)
	if !ok {
		return fmt.Sprint(value)
	}
	for function, of := range o {
		switch function {
		case "Ref":
			return d.ref(of.(string))
		case "Fn::GetAtt":
			id, attribute, _ := strings.Cut(fmt.Sprint(of), ".")
			return d.attribute(id, attribute)
		case "Fn::Sub":
			text, ok := of.(string)
			if !ok {
				break
			}
			return inText.ReplaceAllStringFunc(text, func(in string) string {
				id, attribute, of := strings.Cut(in[2:len(in)-1], ".")
				if of {
					return d.attribute(id, attribute)
				}
				return d.ref(id)
			})
		case "Fn::If":
			branches := of.([]any)
			if d.Holds(branches[0].(string)) {
				return d.text(branches[1])
			}
			return d.text(branches[2])
		}
	}
	panic(fmt.Sprintf("functionstest does not understand %v", value))
}

func (d Deployment) ref(name string) string {
	if value, ok := pseudo[name]; ok {
		return value
	}
	if At(d.Object, "Parameters", name) != nil {
		return d.Parameter(name)
	}
	switch At(d.Object, "Resources", name, "Type") {
	case nil:
		panic(name + " is neither a parameter nor a resource")
	case "AWS::SNS::Topic":
		return "arn:aws:sns:eu-west-1:123456789012:iamkeys-" + name + "-X"
	case "AWS::Serverless::StateMachine":
		return "arn:aws:states:eu-west-1:123456789012:stateMachine:" + d.machine(name)
	case "AWS::S3::Bucket":
		return "iamkeys-" + strings.ToLower(name) + "-x"
	}
	return "iamkeys-" + name + "-X"
}

// machine gives a state machine's name.
func (d Deployment) machine(id string) string {
	if name := At(d.Object, "Resources", id, "Properties", "Name"); name != nil {
		return d.text(name)
	}
	return id + "-X"
}

func (d Deployment) attribute(id, attribute string) string {
	switch kind := At(d.Object, "Resources", id, "Type"); {
	case kind == "AWS::Serverless::StateMachine" && attribute == "Name":
		return d.machine(id)
	case kind == "AWS::S3::Bucket" && attribute == "Arn":
		return "arn:aws:s3:::" + d.ref(id)
	case attribute == "Arn":
		return "arn:aws:lambda:eu-west-1:123456789012:" + d.ref(id)
	}
	return d.ref(id) + "." + attribute
}

// Holds tells whether a condition of the template holds.
func (d Deployment) Holds(condition string) bool { return d.holds(Object{"Condition": condition}) }

func (d Deployment) holds(value any) bool {
	for function, of := range value.(Object) {
		switch function {
		case "Condition":
			return d.holds(At(d.Object, "Conditions", of.(string)))
		case "Fn::Not":
			return !d.holds(List(of)[0])
		case "Fn::Equals":
			return d.text(List(of)[0]) == d.text(List(of)[1])
		case "Fn::And":
			return !slices.ContainsFunc(List(of), func(v any) bool { return !d.holds(v) })
		case "Fn::Or":
			return slices.ContainsFunc(List(of), d.holds)
		}
	}
	panic(fmt.Sprintf("functionstest does not understand the condition %v", value))
}
