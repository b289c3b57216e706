//go:build race

package statemachines_test

// runs is fewer with the race detector, which makes each eight times as long.
const runs = 1_000
