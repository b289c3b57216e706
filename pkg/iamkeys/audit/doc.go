// Package audit examines a whole account: it takes an inventory of its users and
// access keys (inventory.go, credentialreport.go), judges it (rules.go, judge.go:
// pure functions of facts and time), keeps and sends the report (report.go,
// audit.go), and nominates the keys whose turn it is (nominate.go).
package audit
