package iamkeys

import "time"

// All times of a create, each with its reason. CreateTimeout is its function's timeout
// too, and whatever is under way then ends by itself before that: a key is begun in the
// first settleWithin + sendWithin, work ends after workWithin, and undoing is the rest.
const (
	CreateTimeout = 180 * time.Second // the function's, in template.yaml

	// What one create does when.
	settleWithin  = 45 * time.Second                             // for removing the keys of dead creates: then a key of our own may still be begun
	sendWithin    = 20 * time.Second                             // from the intent until CreateAccessKey is sent: a later one could pass for nobody's, see suspectWithin
	attemptWithin = 8 * time.Second                              // for CreateAccessKey and for an attempt of the probe: an AWS that does not answer must leave time to clear up
	showWithin    = 30 * time.Second                             // for a key to be listed whose making got no answer
	verifyWithin  = 60 * time.Second                             // for STS to accept the key: IAM's propagation takes seconds, at times many
	lookWithin    = 10 * time.Second                             // for a second look at the secret, before the delivery
	undoWithin    = 30 * time.Second                             // for deleting the key and seeing it gone
	lagWithin     = 20 * time.Second                             // for IAM to know a key that was just made: until then NoSuchEntity says nothing
	pollEvery     = 2 * time.Second                              // between two attempts or looks
	workWithin    = CreateTimeout - undoWithin - 2*attemptWithin // from the start until only undoing is left: what hangs then, the undo, taking the labels off

	// What one create knows of another, whose clock may be clocksApart from ours.
	clocksApart   = 120 * time.Second
	spare         = 30 * time.Second                    // for sendWithin and attemptWithin, and for a function that has run out of its timeout to be gone
	LockLife      = CreateTimeout + clocksApart + spare // while its intent is younger than this, a lock's create may be at work
	suspectWithin = clocksApart + spare                 // after the intent, by IAM's clock: later than this its create has made no key

	// What a person is told who settles a dead create by hand.
	trailWithin = 20 * time.Minute // CloudTrail shows an event up to 15 minutes late; by then all that one intent can have made is there
)
