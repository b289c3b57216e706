package iamkeys

import "time"

// An Account is an account of the organization.
type Account struct {
	ID    string // twelve digits
	Name  string // a label that people choose and change
	State string // as Organizations names it, such as ACTIVE; "" when it says nothing
}

// A Session is the temporary credentials of a role.
type Session struct {
	AccessKeyID string
	Secret      Secret
	Token       Secret
	Expires     time.Time
}
