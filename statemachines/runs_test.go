//go:build !race

package statemachines_test

// runs is how many random runs TestRotationKeepsItsPromises does.
const runs = 10_000
