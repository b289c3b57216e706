// Package iamkeys is the whole life of an IAM user's access key: list, create,
// last used, deactivate, activate, delete; an audit that finds stale keys; the
// parts of a rotation that never breaks a consumer.
//
// # Promises
//
// Everything here is held to these, and docs/promises.md names for each the
// guards that keep it and the tests that fail without them.
//
//  1. Unknown is never "never used". A read that fails or is missing gives "unknown";
//     nothing is switched off or deleted on unknown, and every report says how many
//     accounts, users and keys were not examined.
//  2. A key in use is never switched off. Whatever deactivates re-reads status and last
//     use of exactly that key in the same invocation, and refuses inside the quiet
//     window plus the last-use lag, counted from the last use that IAM shows. Three
//     words go without: a person's quietHours 0, a person's standing ExposureMode
//     deactivate for a key found in public, and the lifecycle's own key.
//  3. Nothing Active is ever deleted, as far as a list shows that may be ten seconds
//     old, and nothing is deleted to make room or by inference. The one exception is a
//     key that this [Create] holds the answer of, or that a dead one recorded as its
//     own, and that was never delivered.
//  4. A created key is delivered or removed. If storing or verifying fails for certain,
//     it is removed at once; where the outcome stays unknown, it stays and the error
//     names it.
//  5. The secret stays in one process: it goes from IAM to Secrets Manager inside
//     one invocation, in a type, [Secret], that cannot be printed or marshalled.
//  6. Every step may run twice, also at the same time, and gives the same end state:
//     never a second key, never a lost report.
//  7. Nothing changes by default: what changes keys that no person named starts in a
//     mode that only tells.
//  8. There is always a way back until the final [Delete]: reactivating a key, by hand
//     or with [Activate], stops a rotation or retirement from deleting it. Nothing
//     reactivates a key by itself.
//  9. Live data wins: reports and tags nominate, what is read of that one user in
//     the invocation that acts decides.
//
// # How to read it
//
// An operation is a struct of what it needs (ports, settings, the time) with
// Run(ctx, input) (output, error); its input validates itself. What it asks of AWS
// are its ports: ports.go has one interface per action, and an operation's port
// embeds those that it calls. The packages aws... implement them, and iamkeystest
// has an account in memory that does.
//
// This package is about one user's keys. Begin with accesskey.go and tags.go (the
// words) and errors.go. Then one operation a file: list, lastused, deactivate,
// activate, delete. create.go acts on what decide.go, a pure function, decides; what
// it leaves on a secret is written and read in holding.go, its times stand in times.go,
// and secret.go is the type that holds the new key's secret on its way there. A
// rotation is planned by create's decision (plan.go); the workflow itself is
// statemachines/rotation.asl.json.
//
// Package audit is about a whole account, package notice about what people are told.
package iamkeys
