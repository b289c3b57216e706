//go:build race

package simulation

// runs is fewer with the race detector, which makes each eight times as long.
const runs = 1_000
