// Package notice has all that people are told: the message of a report (report.go),
// the notices of one key on its way and of what schedules nominate, and what makes
// untrusted text fit for mail and subject (wording.go). Every notice is a row of the
// tables in stages.go and a text in its kind's file.
package notice
