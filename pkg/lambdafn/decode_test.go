package lambdafn

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"iamkeys/pkg/iamkeys"
)

type part struct {
	Name  string `json:"name"`
	Count *int   `json:"count,omitempty"`
}

type embedded struct {
	Owner string `json:"owner"`
}

type whole struct {
	embedded
	UserName string         `json:"userName"`
	Hours    *int           `json:"hours,omitempty"`
	Force    bool           `json:"force,omitempty"`
	Note     string         `json:"note,omitempty"`
	AsOf     *time.Time     `json:"asOf,omitempty"`
	Part     *part          `json:"part,omitempty"`
	Parts    []part         `json:"parts,omitempty"`
	Counts   map[string]int `json:"counts,omitempty"`
	Hidden   string         `json:"-"`
}

func TestDecode(t *testing.T) {
	three, asOf := 3, time.Date(2026, 11, 23, 6, 0, 0, 0, time.UTC)
	tests := map[string]struct {
		event string
		want  whole
	}{
		"one field":               {`{"userName":"alice"}`, whole{UserName: "alice"}},
		"embedded":                {`{"owner":"team"}`, whole{embedded: embedded{"team"}}},
		"nothing":                 {` {} `, whole{}},
		"null is none":            {`{"userName":null,"hours":null,"force":null,"asOf":null,"part":null,"parts":null,"counts":null}`, whole{}},
		"every field":             {`{"hours":3,"force":true,"asOf":"2026-11-23T06:00:00Z","part":{"name":"p","count":3},"parts":[{"name":"q"}],"counts":{"a":3}}`, whole{Hours: &three, Force: true, AsOf: &asOf, Part: &part{"p", &three}, Parts: []part{{Name: "q"}}, Counts: map[string]int{"a": 3}}},
		"empty, and not optional": {`{"userName":""}`, whole{}},
		"escaped names":           {`{"user\u004eame":"alice"}`, whole{UserName: "alice"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var got whole
			if err := decode([]byte(test.event), &got); err != nil {
				t.Fatalf("refused: %v", err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	tests := map[string]struct{ event, says string }{
		"empty body":             {``, "The input is empty; it must be a JSON object with the fields asOf"},
		"blank body":             {" \n", "The input is empty"},
		"null":                   {`null`, "The input must be a JSON object"},
		"empty and optional":     {`{"note":""}`, "note must not be empty; leave it out if there is none"},
		"a string":               {`"alice"`, "The input must be a JSON object"},
		"an array":               {`[]`, "The input must be a JSON object"},
		"a number":               {`1`, "The input must be a JSON object"},
		"no JSON":                {`alice`, "The input is not JSON"},
		"cut":                    {`{"userName":"al`, "ends in the middle"},
		"cut after a field":      {`{"userName":"alice"`, "ends in the middle"},
		"a comma too many":       {`{"userName":"alice",}`, "not JSON"},
		"two values":             {`{} {}`, "more than one JSON value"},
		"trailing bracket":       {`{}]`, "more than one JSON value"},
		"unknown field":          {`{"user":"alice"}`, `"user" is not a field here; accepted are asOf, counts, force, hours, note, owner, part, parts, userName`},
		"wrong letter case":      {`{"username":"alice"}`, `"username" is not a field here`},
		"Go's name":              {`{"UserName":"alice"}`, `"UserName" is not a field here`},
		"a hidden field":         {`{"Hidden":"x"}`, `"Hidden" is not a field here`},
		"twice":                  {`{"userName":"alice","userName":"bob"}`, "userName is there twice"},
		"twice, once escaped":    {`{"userName":"alice","user\u004eame":"bob"}`, "userName is there twice"},
		"twice, first null":      {`{"userName":null,"userName":"bob"}`, "userName is there twice"},
		"number for a string":    {`{"userName":1}`, "userName must be a string"},
		"object for a string":    {`{"userName":{}}`, "userName must be a string"},
		"string for a number":    {`{"hours":"3"}`, "hours must be a whole number"},
		"fraction":               {`{"hours":1.5}`, "hours must be a whole number"},
		"too large":              {`{"hours":1e30}`, "hours must be a whole number"},
		"string for a switch":    {`{"force":"true"}`, "force must be true or false"},
		"no time":                {`{"asOf":"yesterday"}`, "asOf must be a time such as"},
		"array for an object":    {`{"part":[]}`, "part must be a JSON object with the fields count, name"},
		"object for an array":    {`{"parts":{}}`, "parts must be a JSON array"},
		"unknown within":         {`{"part":{"nam":"p"}}`, `"part.nam" is not a field here; accepted are count, name`},
		"letter case within":     {`{"parts":[{"name":"q"},{"Name":"q"}]}`, `"parts[1].Name" is not a field here`},
		"twice within":           {`{"parts":[{"name":"q","name":"r"}]}`, "parts[0].name is there twice"},
		"wrong type within":      {`{"parts":[{"count":"many"}]}`, "parts[0].count must be a whole number"},
		"wrong type in a map":    {`{"counts":{"a":"b"}}`, "counts must be a JSON object"},
		"a very long field name": {`{"` + strings.Repeat("x", 5000) + `":1}`, `xxx..." is not a field here`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := decode([]byte(test.event), &whole{})
			if iamkeys.CodeOf(err) != iamkeys.InvalidInput {
				t.Fatalf("got %v, want InvalidInput", err)
			}
			if message := err.(*iamkeys.Error).Message; !strings.Contains(message, test.says) || len(message) > 300 {
				t.Errorf("message %q does not say %q, in a line or two", message, test.says)
			}
		})
	}
}

// Whatever decode accepts means what encoding/json makes of it, and every field
// name in it is one of the known.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"userName":"alice","hours":3,"part":{"name":"p"},"parts":[{"count":1}],"asOf":"2026-11-23T06:00:00Z"}`))
	f.Add([]byte(`{"userName":null}`))
	f.Fuzz(func(t *testing.T, event []byte) {
		var got whole
		err := decode(event, &got)
		if err != nil {
			if iamkeys.CodeOf(err) != iamkeys.InvalidInput {
				t.Errorf("refused by %v, not InvalidInput", err)
			}
			return
		}
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(event, &fields); err != nil || fields == nil {
			t.Fatalf("accepted what is no object: %v", err)
		}
		for name := range fields {
			if _, ok := fieldsOf(reflect.TypeFor[whole]())[name]; !ok {
				t.Errorf("accepted the field %q", name)
			}
		}
	})
}
