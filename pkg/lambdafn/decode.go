package lambdafn

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"

	"iamkeys/pkg/iamkeys"
)

// decode decodes one JSON object into *in, a struct. It is stricter than
// encoding/json: field names must be known, spelled in the right letter case and
// appear once, at any depth, and nothing may follow. A null counts as an absent
// field; an empty string does not, since whoever sends one for a field that may be
// absent has lost what was to stand there, maybe a guard. What it refuses is
// InvalidInput, naming the field and what is accepted.
func decode(event []byte, in any) error {
	t := reflect.TypeOf(in).Elem()
	if len(bytes.TrimSpace(event)) == 0 {
		return invalid("The input is empty; it must be %s.", accepted(t))
	}
	d := json.NewDecoder(bytes.NewReader(event))
	if err := check(d, t, "", false); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return invalid("The input has more than one JSON value; it must be %s.", accepted(t))
	}
	if err := json.Unmarshal(event, in); err != nil {
		return invalid("The input cannot be read: %v.", err) // check has seen all that can be named better
	}
	return nil
}

// check reads one value from d and refuses it unless it fits t. Of a field that may
// be absent, an empty string is refused too.
func check(d *json.Decoder, t reflect.Type, path string, optional bool) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	fields := t.Kind() == reflect.Struct && !reflect.PointerTo(t).Implements(unmarshaler)
	if !fields && t.Kind() != reflect.Slice || t == rawMessage {
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return malformed(err)
		}
		if err := json.Unmarshal(value, reflect.New(t).Interface()); err != nil {
			return invalid("%s must be %s.", subject(path), accepted(t))
		}
		if optional && string(value) == `""` {
			return invalid("%s must not be empty; leave it out if there is none.", path)
		}
		return nil
	}

	opening := json.Delim('{')
	if !fields {
		opening = '['
	}
	switch token, err := d.Token(); {
	case err != nil:
		return malformed(err)
	case token == nil && path != "":
		return nil
	case token != opening:
		return invalid("%s must be %s.", subject(path), accepted(t))
	}
	var seen []string
	var known map[string]reflect.StructField
	if fields {
		known = fieldsOf(t)
	}
	for n := 0; d.More(); n++ {
		if !fields {
			if err := check(d, t.Elem(), fmt.Sprintf("%s[%d]", path, n), false); err != nil {
				return err
			}
			continue
		}
		token, err := d.Token()
		if err != nil {
			return malformed(err)
		}
		name, _ := token.(string)
		inner := strings.TrimPrefix(path+"."+name, ".")
		f, ok := known[name]
		switch {
		case !ok:
			return invalid("%s is not a field here; accepted are %s.", shorten(inner), strings.Join(names(t), ", "))
		case slices.Contains(seen, name):
			return invalid("%s is there twice.", inner)
		}
		seen = append(seen, name)
		if err := check(d, f.Type, inner, strings.HasSuffix(f.Tag.Get("json"), ",omitempty")); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed(err)
	}
	return nil
}

var (
	unmarshaler = reflect.TypeFor[json.Unmarshaler]()
	rawMessage  = reflect.TypeFor[json.RawMessage]()
)

// fieldsOf gives the JSON fields of a struct type.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	fields := map[string]reflect.StructField{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			maps.Copy(fields, fieldsOf(f.Type))
		case f.IsExported() && name != "-" && name != "":
			fields[name] = f
		}
	}
	return fields
}

func names(t reflect.Type) []string {
	return slices.Sorted(maps.Keys(fieldsOf(t)))
}

// accepted says in words what a type takes.
func accepted(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Struct && t.String() == "time.Time":
		return `a time such as "2026-11-23T06:00:00Z"`
	case t.Kind() == reflect.Struct && len(names(t)) == 0:
		return "a JSON object without fields"
	case t.Kind() == reflect.Struct:
		return "a JSON object with the fields " + strings.Join(names(t), ", ")
	case t.Kind() == reflect.Slice:
		return "a JSON array"
	case t.Kind() == reflect.Map:
		return "a JSON object"
	case t.Kind() == reflect.String:
		return "a string"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return "a whole number"
	}
	return "a value of another kind"
}

func subject(path string) string {
	if path == "" {
		return "The input"
	}
	return path
}

// shorten keeps a name that the caller made up from filling the message.
func shorten(name string) string {
	if len(name) > 80 {
		name = name[:80] + "..."
	}
	return fmt.Sprintf("%q", name)
}

// malformed refuses what is not JSON.
func malformed(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return invalid("The input ends in the middle; it must be one JSON object.")
	}
	return invalid("The input is not JSON: %v.", err)
}

func invalid(format string, args ...any) error {
	return &iamkeys.Error{Code: iamkeys.InvalidInput, Message: fmt.Sprintf(format, args...)}
}
