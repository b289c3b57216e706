package iamkeys

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A Message is what people are told: a report or a notice. It goes to the notification
// topic, and from there by mail and to machines; beside the topic to the owners of what
// it is about, and into a chat. Without Text it is its JSON alone, for whoever reads
// nothing else.
type Message struct {
	Subject    string      // at most 99 printable ASCII characters
	Text       string      // what e-mail subscribers read
	JSON       []byte      // what all others get
	Attributes []Attribute // for subscription filters

	Brief     string   // what happened, for a chat; Text stands in where it is empty
	NextSteps []string // what to do, for a chat
	Mails     []Mail   // for owners
}

// A Mail is what the owner of a user is told, at the address in the user's owner tag.
// Whether it is an address, and one that may be written to, is not said.
type Mail struct {
	Owner         string // the tag's value
	Subject, Text string
}

// An Attribute is a message attribute; empty values are left out, since SNS refuses them.
type Attribute struct {
	Name, Value string
	Number      bool
}

// maxMessageBytes is SNS's limit of body and attributes together.
// https://docs.aws.amazon.com/sns/latest/api/API_Publish.html
const maxMessageBytes = 262_144

// Body gives the message as SNS takes it with MessageStructure json: the text
// for the protocol email, the JSON for all others. Without Text it is the JSON as it is.
func (m Message) Body() string {
	if m.Text == "" {
		return string(m.JSON)
	}
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

// Fits reports whether SNS takes a message of this size.
func (m Message) Fits() bool {
	size := len(m.Subject) + len(m.Body())
	for _, a := range m.Attributes {
		size += len(a.Name) + len(a.Value) + len("String")
	}
	return size <= maxMessageBytes
}

// ShellWord writes an argument of a command to paste so that a shell takes it as it is,
// whatever is in it.
func ShellWord(s string) string {
	if s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_+=,.@:/-") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
