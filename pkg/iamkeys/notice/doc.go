// Package notice has all that people are told: the message of a report (report.go),
// the notices of rotations (notify.go), and what makes untrusted text fit for mail
// and subject (wording.go).
package notice
