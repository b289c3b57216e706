//go:build !race

package simulation

// runs is how many random runs each of the two proofs does.
const runs = 10_000
