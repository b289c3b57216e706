// Package render writes an audit's report for its readers: [Text] for the mail,
// [CSV] for auditors' spreadsheets, [HTML] for people. The fourth form, JSON for
// machines, is encoding/json's of [iamkeys.Report]; report.schema.json beside
// this file describes it.
//
// All three are pure functions of the report and say the same in the same words
// (words.go). Whatever stands in a report may come from a tag, so no string is
// trusted: each passes through [clean] and then through its form's own escaping,
// and keeps its exact bytes in JSON alone.
//
// The page is compiled from page.templ, because html/template and text/template
// find methods by name at run time, for which the linker must keep every method
// of the AWS SDK: six megabytes of them.
package render

//go:generate go tool templ generate -f page.templ
//go:generate go tool templ generate -f organization.templ
