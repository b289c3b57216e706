package simulation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"iamkeys/pkg/iamkeys"
	"iamkeys/statemachines/asl"
)

// A healthEvent is what an exposure is about, in AWS Health's words.
type healthEvent struct {
	arn, code, status string
	entities          []string
}

// input is the event as EventBridge delivers it.
func (h healthEvent) input(account string, now time.Time) map[string]any {
	entities := []any{}
	for _, e := range h.entities {
		entities = append(entities, map[string]any{"entityValue": e})
	}
	return map[string]any{
		"version": "0", "detail-type": "AWS Health Event", "source": "aws.health", "account": account, "time": now.Format(time.RFC3339), "region": "us-east-1",
		"detail": map[string]any{"eventArn": h.arn, "service": "RISK", "eventTypeCode": h.code, "statusCode": h.status, "affectedAccount": account, "affectedEntities": entities},
	}
}

// expose starts the exposure's workflow on the event after d.
func (w *world) expose(d time.Duration, m *asl.Machine, h healthEvent) {
	e := w.start(d, fmt.Sprint("event-", len(w.started)), m, h.input(w.ID, w.Now()), nil)
	e.event = &h
}

// spares says why an exposure must leave the user's keys on, "" for nothing, as Exposed
// could see it.
func (w *world) spares(e *execution) string {
	mode := w.stack.Deployment.Parameter("ExposureMode")
	switch {
	case mode != "deactivate":
		return "ExposureMode is " + mode
	case w.tagged == iamkeys.TagProtect:
		return "the user is protected"
	case e.event.code != "AWS_RISK_CREDENTIALS_EXPOSED":
		return "the event is " + e.event.code
	case e.event.status == "closed":
		return "the event is closed"
	}
	return ""
}

// exposedOff holds an exposure's switch-off of a key to its promises. To every other
// way it is a person's hand.
func (v *witness) exposedOff(h *hand, k iamkeys.AccessKey) {
	e, id := h.execution, k.AccessKeyID
	v.gone[id], v.touched[id] = "person", true
	if h.function != "deactivate" || !slices.Contains(e.event.entities, id) {
		v.fail("promise 2: %s switched off %s, which the event does not name", h.function, id)
	}
	if e.kept != "" {
		v.fail("promise 7: %s was switched off, although %s", id, e.kept)
	}
	// What died or was not answered is tried for a minute; a call may take 15 seconds more.
	if by := v.w.standing[id]; by != nil && (by != e || v.w.Now().Sub(e.off) > 2*time.Minute) {
		v.fail("promise 8: %s was switched off again for its exposure, and a person had switched it on", id)
	}
	if v.w.standing == nil {
		v.w.standing = map[string]*execution{}
	}
	if v.w.standing[id] == nil {
		v.w.standing[id], e.off = e, v.w.Now()
	}
}

// endExposure holds an exposure's end to its notice: in each event, as it stands, each
// entity is told once at least, or that the event could not be read.
func (w *world) endExposure(e *execution) {
	last := e.answers[len(e.answers)-1]
	if last.function == "notify" && last.errorName != "" { // nobody could be told
		return
	}
	if e.failure != nil && last.stage != "failed" {
		w.fail("an exposure failed as %v, and nobody was told; it went %v", e.failure, e.run.History.States)
	}
	for _, entity := range e.event.entities {
		told := func(m iamkeys.Message) bool {
			return strings.Contains(string(m.JSON), entity) || strings.Contains(m.Text, "could not be read")
		}
		if !slices.ContainsFunc(w.started, func(o *execution) bool {
			return o.event != nil && o.event.arn == e.event.arn && o.event.status == e.event.status && slices.ContainsFunc(o.notices, told)
		}) {
			w.fail("an exposure of %s has ended, and nobody was told of it; it went %v", entity, e.run.History.States)
		}
	}
}
