package iamkeys

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"
)

// An ExposureMode says what is done about a key that AWS found in public.
type ExposureMode string

// The modes.
const (
	ExposureOff        ExposureMode = "off"
	ExposureTell       ExposureMode = "tell"
	ExposureDeactivate ExposureMode = "deactivate" // a person's standing word: the key goes off at once, used or not
)

// ExposedIAM is all that [Exposed] asks of IAM.
type ExposedIAM interface {
	GetAccessKeyLastUsed
	GetUser
	ListAccessKeys
	PowerIAM
}

// Markers are objects of the report bucket by which runs know of each other.
type Markers interface {
	GetObject
	PutObject
}

// Exposed says what is known of the keys in an event of AWS Health, and which of them
// is to be switched off. It changes no key. Nothing keeps it from answering but an event
// that is none: what cannot be read is null, and told all the same.
type Exposed struct {
	IAM      ExposedIAM
	S3       Markers
	Account  string // its ID, twelve digits
	Mode     ExposureMode
	UserPath string // keys of users of other paths are told, and not switched off
	OwnerTag string
	Now      func() time.Time
	Log      *slog.Logger
}

// ExposedInput is what Exposed takes: the event as EventBridge delivers it, and the name
// of the execution that handles it.
// https://docs.aws.amazon.com/health/latest/ug/aws-health-events-eventbridge-schema.html
type ExposedInput struct {
	Event     json.RawMessage `json:"event"`
	Execution string          `json:"execution"`
}

// An Exposure is what Exposed returns.
type Exposure struct {
	EventARN      string       `json:"eventArn"`
	EventTypeCode string       `json:"eventTypeCode"`
	StatusCode    string       `json:"statusCode"` // of the event: open, upcoming or closed
	Account       string       `json:"account"`    // whose keys they are
	Keys          []ExposedKey `json:"keys"`       // one at least
}

// An ExposedKey is one key that the event names, or an entity that is not known to be
// one. Fields that are null are not known, or there is no such thing.
type ExposedKey struct {
	Entity       string     `json:"entity"` // as the event names it
	AccessKeyID  *string    `json:"accessKeyId"`
	UserName     *string    `json:"userName"`
	Owner        *string    `json:"owner"`
	Status       *Status    `json:"status"`
	LastUsedDate *time.Time `json:"lastUsedDate"`
	Power        Power      `json:"power"`
	Known        *bool      `json:"known"`      // whether the account has it; null where that could not be read
	First        bool       `json:"first"`      // nobody was told of it in this event, as it stands
	Deactivate   bool       `json:"deactivate"` // it is to be switched off, by this execution
}

// Validate refuses a malformed input with InvalidInput.
func (in ExposedInput) Validate() error {
	var event map[string]json.RawMessage
	if json.Unmarshal(in.Event, &event) != nil || event["detail"] == nil {
		return Refuse(InvalidInput, "event must be an event of AWS Health as EventBridge delivers it, with its detail.")
	}
	if in.Execution == "" {
		return Refuse(InvalidInput, "execution is missing: the name of the execution that handles the event.")
	}
	return nil
}

// A healthEvent is what is read of an event. A field of another kind than documented
// counts as absent.
type healthEvent struct {
	arn, typeCode, statusCode, account string
	entities                           []string // one at least
}

func readHealthEvent(content json.RawMessage) (e healthEvent) {
	fields := func(content json.RawMessage) (f map[string]json.RawMessage) {
		_ = json.Unmarshal(content, &f)
		return f
	}
	text := func(content json.RawMessage) (s string) {
		_ = json.Unmarshal(content, &s)
		return s
	}
	event := fields(content)
	detail := fields(event["detail"])
	e.arn, e.typeCode, e.statusCode, e.account = text(detail["eventArn"]), text(detail["eventTypeCode"]), text(detail["statusCode"]), text(detail["affectedAccount"])
	if e.account == "" {
		e.account = text(event["account"])
	}
	var entities []json.RawMessage
	_ = json.Unmarshal(detail["affectedEntities"], &entities)
	for _, entity := range entities {
		if value := text(fields(entity)["entityValue"]); value != "" && !slices.Contains(e.entities, value) {
			e.entities = append(e.entities, value)
		}
	}
	if len(e.entities) == 0 {
		e.entities = []string{""}
	}
	return e
}

// ExposedCode is the one type of event that says for certain that a key is in public, and
// at which it may be switched off unasked.
const ExposedCode = "AWS_RISK_CREDENTIALS_EXPOSED"

// What an event's entity may be.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html
var (
	longTermKeys = regexp.MustCompile(`^AKIA[A-Z0-9]{12,124}$`)
	temporary    = regexp.MustCompile(`^ASIA[A-Z0-9]{12,124}$`)
	userARNs     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}):user/(?:[\x21-\x7e]+/)?([A-Za-z0-9_+=,.@-]{1,128})$`)
	userNameOnly = regexp.MustCompile(`^[A-Za-z0-9_+=,.@-]{1,128}$`)
)

// leaveTime is how much of the function's time is left for answering.
const leaveTime = 10 * time.Second

// Run says what is known of every entity of the event. Entities that time does not
// allow to look up are told as they stand.
func (o Exposed) Run(ctx context.Context, in ExposedInput) (Exposure, error) {
	e := readHealthEvent(in.Event)
	out := Exposure{EventARN: e.arn, EventTypeCode: e.typeCode, StatusCode: e.statusCode, Account: e.account}
	within := ctx
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		within, cancel = context.WithDeadline(ctx, deadline.Add(-leaveTime))
		defer cancel()
	}
	found := make([][]ExposedKey, len(e.entities))
	next := make(chan int, len(e.entities))
	for i := range e.entities {
		next <- i
	}
	close(next)
	look := func() {
		for i := range next {
			found[i] = o.keys(within, e, e.entities[i], in.Execution)
		}
	}
	var beside sync.WaitGroup
	for range min(mostLookers, 1+len(e.entities)/10) - 1 {
		beside.Go(look)
	}
	look()
	beside.Wait()
	out.Keys = slices.Concat(found...)
	return out, nil
}

// mostLookers is how many entities are looked up at a time. Mostly an event has one; of
// the hundred that one may have, each is up to eight calls, and time is for fewer.
const mostLookers = 8

// keys gives the keys that an entity stands for, with what is to be done about each.
func (o Exposed) keys(ctx context.Context, e healthEvent, entity, execution string) (keys []ExposedKey) {
	all, first := o.look(ctx, e, entity), o.first(ctx, e, entity)
	for _, k := range all {
		k.First = first
		k.Deactivate = o.standsToGo(e, k) && o.claim(ctx, execution, *k.AccessKeyID)
		keys = append(keys, k.ExposedKey)
	}
	return keys
}

// A looked key is one with what else decides over it.
type looked struct {
	ExposedKey
	user User // its user, the zero User where it could not be read
}

// look gives the keys that an entity stands for, and itself where there are none.
func (o Exposed) look(ctx context.Context, e healthEvent, entity string) []looked {
	unknown := looked{ExposedKey: ExposedKey{Entity: entity, Power: UnknownPower}}
	arn := userARNs.FindStringSubmatch(entity)
	ours := e.account == o.Account
	switch {
	case temporary.MatchString(entity):
		unknown.AccessKeyID = &entity
	case longTermKeys.MatchString(entity):
		unknown.AccessKeyID = &entity
		if ours {
			return o.lookKey(ctx, entity, unknown)
		}
	case arn != nil && arn[1] == o.Account && ours:
		return o.lookUser(ctx, arn[2], unknown)
	case arn != nil:
		unknown.UserName = &arn[2]
	case userNameOnly.MatchString(entity) && entity != "root" && ours:
		return o.lookUser(ctx, entity, unknown)
	}
	return []looked{unknown}
}

// lookKey looks a key ID up.
func (o Exposed) lookKey(ctx context.Context, id string, unknown looked) []looked {
	used, err := o.IAM.GetAccessKeyLastUsed(ctx, id)
	switch code := CodeOf(err); {
	case code == NoSuchEntity, code == AccessDenied: // IAM's answers about a key that the account does not have
		unknown.Known = new(bool)
		return []looked{unknown}
	case err != nil:
		o.unread(ctx, "key "+id, err)
		return []looked{unknown}
	}
	k := unknown
	k.Known, k.UserName, k.LastUsedDate = new(true), Optional(used.UserName), Instant(used.Date)
	if used.UserName == "" {
		return []looked{k}
	}
	o.addUser(ctx, &k)
	keys, err := o.IAM.ListAccessKeys(ctx, used.UserName)
	if err != nil {
		o.unread(ctx, "keys of user "+used.UserName, err)
		return []looked{k}
	}
	if listed, ok := find(keys, id); ok {
		k.Status = &listed.Status
	}
	return []looked{k}
}

// lookUser gives the Active keys of a user, or the user alone where there are none.
func (o Exposed) lookUser(ctx context.Context, userName string, unknown looked) []looked {
	u := unknown
	u.UserName = &userName
	keys, err := o.IAM.ListAccessKeys(ctx, userName)
	switch code := CodeOf(err); {
	case code == NoSuchEntity:
		u.Known = new(bool)
		return []looked{u}
	case err != nil:
		o.unread(ctx, "keys of user "+userName, err)
		return []looked{u}
	}
	u.Known = new(true)
	o.addUser(ctx, &u)
	var found []looked
	for _, listed := range activeKeys(keys) {
		k := u
		k.AccessKeyID, k.Status = &listed.AccessKeyID, &listed.Status
		if used, err := o.IAM.GetAccessKeyLastUsed(ctx, listed.AccessKeyID); err != nil {
			o.unread(ctx, "key "+listed.AccessKeyID, err)
		} else {
			k.LastUsedDate = Instant(used.Date)
		}
		found = append(found, k)
	}
	if found == nil {
		return []looked{u}
	}
	return found
}

// addUser adds what its tags and policies say of the key's user.
func (o Exposed) addUser(ctx context.Context, k *looked) {
	user, err := o.IAM.GetUser(ctx, *k.UserName)
	if err != nil {
		o.unread(ctx, "user "+*k.UserName, err)
		return
	}
	k.user = withPolicies(ctx, o.IAM, user)
	k.Power = k.user.Power()
	if owner, ok := user.Tag(o.OwnerTag); ok {
		k.Owner = Optional(strings.ToValidUTF8(owner[:min(len(owner), maxListedOwner)], ""))
	}
}

// maxListedOwner is how much of an owner a list names, in bytes.
const maxListedOwner = 128

// unread notes what could not be read: it is told as unknown.
func (o Exposed) unread(ctx context.Context, what string, err error) {
	o.Log.WarnContext(ctx, "not known of an exposed key", "what", what, "code", CodeOf(err), "error", err.Error())
}

// standsToGo reports whether a person's standing word holds for the key: for a key ID
// that AWS names as exposed itself, Active, of our account and of a user that may be
// changed, in an event that is not over.
func (o Exposed) standsToGo(e healthEvent, k looked) bool {
	return o.Mode == ExposureDeactivate && e.typeCode == ExposedCode && e.statusCode != "closed" && e.account == o.Account &&
		k.AccessKeyID != nil && *k.AccessKeyID == k.Entity && k.Status != nil && *k.Status == Active &&
		k.user.UserName != "" && k.user.Under(o.UserPath) && !k.user.Protected()
}

// claim makes the key this execution's to switch off, once for all events: a key that
// another execution had is one that a person has switched on again.
func (o Exposed) claim(ctx context.Context, execution, accessKeyID string) bool {
	type marker struct {
		Execution string    `json:"execution"`
		Time      time.Time `json:"time"`
	}
	key := "markers/off/" + o.Account + "/" + accessKeyID + ".json"
	content, _ := json.Marshal(marker{execution, o.Now().UTC().Truncate(time.Second)}) // a string and a time always marshal
	err := o.S3.PutObject(ctx, key, "application/json", bytes.NewReader(content), new(""))
	if err == nil {
		return true
	}
	stored, _, unread := o.S3.GetObject(ctx, key)
	var there marker
	if unread != nil || json.Unmarshal(stored, &there) != nil {
		o.Log.WarnContext(ctx, "an exposed key is left on: its marker could not be written", "accessKeyId", accessKeyID, "error", err.Error())
		return false
	}
	return there.Execution == execution
}

// ExposureMarker is where it stands that people were told of an entity in an event of
// AWS Health, as its status was.
func ExposureMarker(e Exposure, entity string) string {
	sum := sha256.Sum256([]byte(strings.Join([]string{e.EventARN, e.Account, entity, e.StatusCode}, "\n")))
	return "markers/exposed/" + hex.EncodeToString(sum[:]) + ".json"
}

// first reports whether nobody was told yet. What cannot be read is told again.
func (o Exposed) first(ctx context.Context, e healthEvent, entity string) bool {
	_, _, err := o.S3.GetObject(ctx, ExposureMarker(Exposure{EventARN: e.arn, Account: e.account, StatusCode: e.statusCode}, entity))
	if err != nil && CodeOf(err) != NoSuchEntity {
		o.unread(ctx, "whether people were told", err)
	}
	return err != nil
}
