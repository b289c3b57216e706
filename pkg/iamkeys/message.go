package iamkeys

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A Message is what goes to the notification topic: the audit's report and the
// notices of rotations alike.
type Message struct {
	Subject    string      // at most 99 printable ASCII characters
	Text       string      // what e-mail subscribers read
	JSON       []byte      // what all others get
	Attributes []Attribute // for subscription filters
}

// An Attribute is a message attribute; empty values are left out, since SNS refuses them.
type Attribute struct {
	Name, Value string
	Number      bool
}

// SNS's limits: https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const (
	maxMessageBytes = 262_144 // body and attributes together
)

// Body gives the message as SNS takes it with MessageStructure json: the text
// for the protocol email, the JSON for all others.
func (m Message) Body() string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // <, > and & would take six bytes each
	// Two strings always marshal.
	_ = e.Encode(struct {
		Default string `json:"default"`
		Email   string `json:"email"`
	}{string(m.JSON), m.Text})
	return strings.TrimSuffix(b.String(), "\n")
}

// fits reports whether SNS takes a message of this size.
func (m Message) Fits() bool {
	size := len(m.Subject) + len(m.Body())
	for _, a := range m.Attributes {
		size += len(a.Name) + len(a.Value) + len("String")
	}
	return size <= maxMessageBytes
}
