package iamkeys_test

import (
	"testing"

	"iamkeys/pkg/iamkeys"
)

func tagged(key, value string) iamkeys.User {
	return iamkeys.User{ARN: "arn:aws:iam::123456789012:user/ci/alice", Tags: []iamkeys.Tag{{Key: key, Value: value}}}
}

// What people write by hand: other case, blanks around it, words of their own.
func TestTags(t *testing.T) {
	for _, c := range []struct {
		user   iamkeys.User
		rotate iamkeys.OptIn
	}{
		{tagged("owner", "team"), iamkeys.NotOptedIn},
		{tagged("iamkeys:rotate", "off"), iamkeys.NotOptedIn},
		{tagged("iamkeys:rotate", " OFF "), iamkeys.NotOptedIn},
		{tagged("iamkeys:rotate", "on"), iamkeys.OptedIn},
		{tagged("IAMKEYS:Rotate", " On\t"), iamkeys.OptedIn},
		{tagged("iamkeys:rotate", "true"), iamkeys.UnclearOptIn},
		{tagged("iamkeys:rotate", "yes"), iamkeys.UnclearOptIn},
		{tagged("iamkeys:rotate", ""), iamkeys.UnclearOptIn},
	} {
		if got := c.user.Rotate(); got != c.rotate {
			t.Errorf("%v: got %d, want %d", c.user.Tags, got, c.rotate)
		}
	}
	for _, value := range []string{"true", "yes", "1", "", "false"} {
		if !tagged("IamKeys:Protect", value).Protected() {
			t.Errorf("the value %q does not protect", value)
		}
	}
	if tagged("owner", "iamkeys:protect").Protected() {
		t.Error("protected without the tag")
	}
	if value, ok := tagged("Owner", " team ").Tag("owner"); !ok || value != "team" {
		t.Errorf("read %q", value)
	}
	for path, want := range map[string]bool{"/": true, "/ci/": true, "/c/": false, "/ci/alice/": false, "/other/": false} {
		if got := tagged("", "").Under(path); got != want {
			t.Errorf("under %s: %t", path, got)
		}
	}
	if (iamkeys.User{}).Under("/") {
		t.Error("a user of no ARN stands under /")
	}
}
