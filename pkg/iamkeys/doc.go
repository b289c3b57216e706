// Package iamkeys is the whole life of an IAM user's access key: list, create,
// last used, deactivate, activate, delete; an audit that finds stale keys; the
// parts of a rotation that never breaks a consumer.
//
// # Promises
//
// Everything here is held to these, and docs/promises.md names for each the
// guards that keep it and the tests that fail without them.
//
//  1. Unknown is never "never used". A read that fails gives "unknown"; nothing
//     is switched off or deleted on unknown, and every report says how many users
//     and keys were not examined.
//  2. A key in use is never switched off. [Deactivate] re-reads status and last
//     use of exactly that key, and refuses inside the quiet window.
//  3. Nothing Active is ever deleted, and nothing is deleted to make room. The one
//     exception is a key that this [Create], or the dead one it takes over,
//     provably made and could not deliver.
//  4. A created key is delivered or removed. Where the outcome stays unknown, the
//     key stays and the error names it.
//  5. The secret stays in one process: it goes from IAM to Secrets Manager inside
//     one invocation, in a type, [Secret], that cannot be printed or marshalled.
//  6. Every step may run twice, also at the same time, and ends the same.
//  7. Nothing changes by default: what changes keys that no person named starts in
//     plan mode.
//  8. There is always a way back until the final [Delete]: [Activate].
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
// it leaves on a secret is written and read in secretversion.go, and secret.go is the
// type that holds the new key's secret on its way there. A rotation is planned by
// create's decision (plan.go); the workflow itself is statemachines/rotation.asl.json.
//
// Package audit is about a whole account, package notice about what people are told.
package iamkeys
