//go:build !race

package simulation

// runs is how many random runs TestRotationKeepsItsPromises does.
const runs = 10_000
