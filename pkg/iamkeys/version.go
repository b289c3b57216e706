package iamkeys

// Version is this release's. It stands in every log line and report, in what the
// functions call themselves to AWS, and in the template's description.
const Version = "1.0.0"
