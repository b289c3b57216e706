package audit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"iamkeys/pkg/iamkeys"
	"iamkeys/pkg/iamkeys/audit"
	"iamkeys/pkg/iamkeys/iamkeystest"
	"iamkeys/pkg/iamkeys/notice"
)

// noting sees whether a process came to know that it had written latest.json.
type noting struct {
	*iamkeystest.Process
	t       *rapid.T
	noted   *bool
	written *[]audit.Report // every latest.json so far
}

func (n noting) PutObject(ctx context.Context, key, contentType string, content io.ReadSeeker, replaces *string) error {
	body, err := io.ReadAll(content)
	if err != nil {
		return err
	}
	err = n.Process.PutObject(ctx, key, contentType, bytes.NewReader(body), replaces)
	if key != base+"latest.json" {
		return err
	}
	*n.noted = err == nil
	if o, ok := n.Objects()[key]; ok && bytes.Equal(o.Content, body) && iamkeys.CodeOf(err) != iamkeys.InProgress {
		r, last := decodedRapid(n.t, body), len(*n.written)-1
		if last < 0 || !reflect.DeepEqual((*n.written)[last], *r) { // else another attempt of this run wrote it
			*n.written = append(*n.written, *r)
		}
	}
	return err
}

func decodedRapid(t *rapid.T, content []byte) *audit.Report {
	var r audit.Report
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatalf("%v: %s", err, content)
	}
	return &r
}

// place is what tells one finding from another over runs.
func place(f audit.Finding) string {
	s := fmt.Sprintf("%s %s", f.Rule, f.UserName)
	if f.CreateDate != nil {
		s += f.CreateDate.Format(" 2006-01-02T15:04:05")
	}
	return s
}

// TestAuditOverlaps lets up to four audits run at the same time, some of the same event,
// in every order of their calls, each dying or failing at any call, while things get
// worse: nothing that latest.json holds was not told; nothing is told as new again but
// what a run told that did not come to note it; latest.json never gets older; and the
// next run in peace knows everything.
func TestAuditOverlaps(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := iamkeystest.NewAccount()
		a.AddUser(user)
		worse := []func(){
			func() { a.AddKey(user, 100*day+time.Duration(len(a.Made()))*7*time.Minute) }, func() { a.AddKey(user, 46*day+time.Duration(len(a.Made()))*7*time.Minute) }, func() { a.AddRootKey(day) },
			func() { a.Attach(user, "arn:aws:iam::aws:policy/AWSCompromisedKeyQuarantineV3") },
		}
		for range rapid.IntRange(0, 2).Draw(rt, "wrong from the start") {
			worse[rapid.IntRange(0, len(worse)-1).Draw(rt, "what")]()
		}
		var written []audit.Report
		begin := func(i int, in audit.Input, arrange func(*iamkeystest.Process, *audit.Audit)) (noted *bool, run func()) {
			p, noted := a.Start(), new(bool)
			o := auditor(p)
			o.S3 = noting{p, rt, noted, &written}
			o.Message = func(r audit.Report, where string) iamkeys.Message {
				m := notice.Report(mail)(r, where)
				m.Attributes = append(m.Attributes, iamkeys.Attribute{Name: "attempt", Value: strconv.Itoa(i)})
				return m
			}
			o.RequestID = func(context.Context) string { return fmt.Sprint("request-", i) }
			if arrange != nil {
				arrange(p, &o)
			}
			return noted, func() { p.Run(func() { _, _ = o.Run(context.Background(), in) }) }
		}
		input := func() audit.Input { return audit.Input{EventTime: a.Now(), Inventory: audit.FromLive} }
		noted := map[string]*bool{}
		first := input()
		if rapid.Bool().Draw(rt, "a run before") {
			ok, run := begin(100, first, nil)
			noted["100"] = ok
			run()
			a.Advance(time.Duration(rapid.IntRange(1, 3).Draw(rt, "later, h")) * time.Hour)
		}

		n := rapid.IntRange(1, 4).Draw(rt, "runs")
		events := []audit.Input{first, input(), {EventTime: a.Now().Add(time.Minute), Inventory: audit.FromLive}, {Inventory: audit.FromLive}}
		turn := iamkeystest.TakeTurns(a, n+1, func(ready []int) int {
			a.Advance(time.Duration(rapid.IntRange(0, 2).Draw(rt, "pause, s")) * time.Second)
			return rapid.SampledFrom(ready).Draw(rt, "turn")
		})
		for i := range n {
			in := rapid.SampledFrom(events).Draw(rt, "event")
			fault, at := rapid.SampledFrom(append(iamkeystest.Faults, iamkeystest.None, iamkeystest.None)).Draw(rt, "fault"), rapid.IntRange(1, 20).Draw(rt, "at call")
			ok, run := begin(i, in, func(p *iamkeystest.Process, o *audit.Audit) {
				skew := time.Duration(rapid.IntRange(-60, 60).Draw(rt, "skew, s")) * time.Second
				o.Now = func() time.Time { return a.Now().Add(skew) }
				p.Fault = func(i int, _ string) iamkeystest.Fault {
					if i == at {
						return fault
					}
					return iamkeystest.None
				}
				p.Before = func(int, string) { turn.Wait(i) }
			})
			noted[strconv.Itoa(i)] = ok
			turn.Go(i, run)
		}
		meanwhile := rapid.SliceOfN(rapid.IntRange(0, len(worse)-1), 0, 2).Draw(rt, "getting worse")
		turn.Go(n, func() {
			for _, what := range meanwhile {
				turn.Wait(n)
				worse[what]()
			}
		})
		turn.Run()

		// In peace: a run that comes after all of them, whatever their clocks said.
		a.Advance(5 * time.Minute)
		ok, run := begin(101, input(), nil)
		noted["101"] = ok
		run()
		if !*ok {
			rt.Fatal("the run in peace did not write latest.json")
		}

		for i, r := range written {
			if i > 0 && !written[i-1].Summary.AsOf.Before(r.Summary.AsOf) {
				rt.Errorf("latest.json of %s came after that of %s", r.Summary.AsOf, written[i-1].Summary.AsOf)
			}
		}
		told, again := map[string]int{}, map[string]int{} // how often as new; and by runs that did not note it
		for _, m := range a.Messages() {
			attempt := m.Attributes[slices.IndexFunc(m.Attributes, func(a iamkeys.Attribute) bool { return a.Name == "attempt" })].Value
			for _, f := range decodedRapid(rt, m.JSON).Findings {
				if f.State == audit.New {
					told[place(f)]++
					if !*noted[attempt] {
						again[place(f)]++
					}
				}
			}
		}
		last := written[len(written)-1]
		for _, f := range last.Findings {
			if told[place(f)] == 0 {
				rt.Errorf("%s stands in latest.json and was never told", place(f))
			}
		}
		for at, n := range told {
			if n > 1+again[at] {
				rt.Errorf("%s was told %d times as new, %d of them by runs that did not note it", at, n, again[at])
			}
		}
		truth, _ := examined(rt, a.Start(), audit.FromLive)
		var got, want []string
		for _, f := range last.Findings {
			got = append(got, place(f))
		}
		for _, f := range truth.Findings {
			want = append(want, place(f))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			rt.Errorf("latest.json holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}
