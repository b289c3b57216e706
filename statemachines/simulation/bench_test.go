package simulation

import (
	"testing"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys/iamkeystest"
)

// BenchmarkRotation75Days is the longest rotation of the stack's defaults that
// ends well: the old key falls quiet just for the last of 180 polls, 6 hours
// apart, and then soaks for 30 days. It tells what that costs: Step Functions
// bills $0.025 for 1,000 transitions beyond the 4,000 that are free each month,
// and ends an execution at 25,000 events.
// https://aws.amazon.com/step-functions/pricing/
func BenchmarkRotation75Days(b *testing.B) {
	var w *world
	var e *execution
	for b.Loop() {
		var old string
		w, old = scene(b)
		w.employ(&consumer{holds: old, service: "s3", every: 5 * hour, reading: once, period: 857 * hour}, hour)
		e = w.rotate(old, nil)
	}
	if took := w.Now().Sub(iamkeystest.Epoch); e.failure != nil || e.count("deactivate") != 180 || took < 75*day || took > 76*day {
		b.Fatalf("ended as %v after %d polls and %v", e.failure, e.count("deactivate"), took)
	}
	b.ReportMetric(float64(e.run.History.Transitions), "transitions")
	b.ReportMetric(float64(e.run.History.Events), "events")
	b.ReportMetric(float64(e.run.History.Transitions)*0.025/1000, "$/rotation")
	b.ReportMetric(float64(w.calls), "calls")
	b.ReportMetric(float64(w.largest), "B/largest-payload")
}

// BenchmarkRotationAtOnce is a rotation whose consumers adopt the new key at
// once and whose old key is quiet already.
func BenchmarkRotationAtOnce(b *testing.B) {
	var w *world
	var e *execution
	for b.Loop() {
		var old string
		w, old = scene(b)
		w.employ(&consumer{holds: old, service: "s3", every: 10 * day, reading: everyTime}, 10*day-hour)
		e = w.rotate(old, nil)
	}
	if e.failure != nil || e.count("deactivate") != 1 {
		b.Fatalf("ended as %v after %d polls", e.failure, e.count("deactivate"))
	}
	b.ReportMetric(float64(e.run.History.Transitions), "transitions")
	b.ReportMetric(float64(e.run.History.Events), "events")
	b.ReportMetric(float64(w.calls), "calls")
	b.ReportMetric(float64(w.largest), "B/largest-payload")
}

// BenchmarkRetirement is a retirement that nobody disturbs, by the stack's defaults: 14
// days of notice, 90 of soak with a look each.
func BenchmarkRetirement(b *testing.B) {
	var r *retiring
	for b.Loop() {
		r = &retiring{Account: iamkeystest.NewAccount()}
		r.AddUser(user)
		r.key = r.AddKey(user, 400*day)
		if got := r.run(b, map[string]string{"RetirementMode": "apply"}, map[string]any{"userName": user, "accessKeyId": r.key}); got != "removed" {
			b.Fatalf("ended as %q", got)
		}
	}
	calls := 0
	for _, p := range r.called {
		calls += len(p.Calls)
	}
	b.ReportMetric(float64(r.history.Transitions), "transitions")
	b.ReportMetric(float64(r.history.Events), "events")
	b.ReportMetric(float64(r.history.Transitions)*0.025/1000, "$/retirement")
	b.ReportMetric(float64(r.invoked), "invocations")
	b.ReportMetric(float64(calls), "calls")
	b.ReportMetric(float64(r.largest), "B/largest-payload")
}

// BenchmarkRandomRuns tells how many of the runs of TestRotationKeepsItsPromises
// one processor does in a second.
func BenchmarkRandomRuns(b *testing.B) {
	run := rapid.Custom(func(rt *rapid.T) int { randomRun(rt); return 0 })
	seed := 0
	for b.Loop() {
		seed++
		run.Example(seed)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "runs/s")
}
