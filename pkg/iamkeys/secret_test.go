package iamkeys

import (
	"bytes"
	"encoding"
	"encoding/gob"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Every way that this test knows to turn a value into text, on everything that
// may hold a secret: none shows it.
func TestSecretCannotBeShown(t *testing.T) {
	const text = "wJalrXUtnFEMI/K7MDENG"
	secret := NewSecret(text)
	type exported struct {
		UserName string
		Secret   Secret
	}
	type unexported struct {
		userName string
		secret   Secret
	}
	type deep struct{ In *exported }
	type embedded struct{ Secret }
	type fromError struct {
		error
		held Secret
	}
	credentials := Credentials{UserName: "alice", AccessKeyID: "AKIAIOSFODNN7EXAMPLE", Secret: secret}
	version := SecretVersion{ID: "v", Credentials: &credentials}
	holders := map[string]any{
		"itself": secret, "pointer": &secret, "exported": exported{"alice", secret}, "unexported": unexported{"alice", secret},
		"pointer to a struct": &unexported{"alice", secret}, "deep": deep{&exported{"alice", secret}}, "embedded": embedded{secret},
		"slice": []Secret{secret}, "array": [1]Secret{secret}, "map": map[string]Secret{"alice": secret}, "map of structs": map[string]unexported{"alice": {"alice", secret}},
		"interface": []any{secret, &secret}, "credentials": credentials, "pointer to credentials": &credentials, "version": version, "pointer to a version": &version,
		"error": fromError{errors.New("failed"), secret}, "function": func() Secret { return secret },
	}
	for name, holder := range holders {
		t.Run(name, func(t *testing.T) {
			shown := map[string]string{}
			for _, verb := range "vdsqxXobcUtTpeEfFgGOwz" {
				for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "# ", "100", ".3", "*"} {
					format := "%" + flags + string(verb)
					shown[format] = fmt.Sprintf(format, holder)
				}
			}
			shown["Sprint"], shown["Sprintln"] = fmt.Sprint(holder), fmt.Sprintln("a", holder, "b")
			shown["Errorf"] = fmt.Errorf("failed for %v: %w", holder, errors.Join(fmt.Errorf("with %+v", holder))).Error()
			shown["Append"] = string(fmt.Append(nil, holder))

			keep := func(way string, content []byte, err error) {
				shown[way] = string(content)
				if err != nil {
					shown[way] += err.Error()
				}
			}
			content, err := json.Marshal(holder)
			keep("JSON", content, err)
			content, err = json.MarshalIndent(map[string]any{"in": []any{holder}}, "", " ")
			keep("JSON, nested", content, err)
			content, err = xml.Marshal(holder)
			keep("XML", content, err)
			var b bytes.Buffer
			err = gob.NewEncoder(&b).Encode(holder)
			keep("gob", b.Bytes(), err)
			if m, ok := holder.(encoding.TextMarshaler); ok {
				content, err = m.MarshalText()
				keep("text", content, err)
			}

			for kind, handler := range map[string]func(*bytes.Buffer) slog.Handler{
				"slog text": func(b *bytes.Buffer) slog.Handler {
					return slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true})
				},
				"slog JSON": func(b *bytes.Buffer) slog.Handler {
					return slog.NewJSONHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true})
				},
			} {
				var b bytes.Buffer
				l := slog.New(handler(&b))
				l.Info("m", "holder", holder)
				l.Debug(fmt.Sprint(holder), slog.Group("g", slog.Any("holder", holder), slog.Any("list", []any{holder})))
				l.With("holder", holder).WithGroup("g").Error("m", "error", fmt.Errorf("failed with %v", holder))
				l.Warn("m", slog.Any("value", slog.AnyValue(holder)), slog.Any("map", map[string]any{"holder": holder}))
				shown[kind] = b.String()
			}
			b.Reset()
			log.New(&b, "", log.LstdFlags).Printf("%v %+v %#v", holder, holder, holder)
			shown["log"] = b.String()

			for way, s := range shown {
				for _, leaked := range []string{text, text[:8], fmt.Sprintf("%x", text)[:16], fmt.Sprintf("%X", text)[:16], fmt.Sprintf("%v", []byte(text))[1:20]} {
					if strings.Contains(s, leaked) {
						t.Errorf("%s shows %s", way, s)
						break
					}
				}
			}
		})
	}

	// The test's own eyes: in a string it would be seen.
	if s := fmt.Sprintf("%+v", struct{ Secret string }{text}); !strings.Contains(s, text) {
		t.Error("this test cannot see a secret that is shown")
	}
}

func TestSecret(t *testing.T) {
	if got := NewSecret("wJalr").Reveal(); got != "wJalr" {
		t.Errorf("Reveal gives %q", got)
	}
	if got := (Secret{}).Reveal(); got != "" {
		t.Errorf("the zero Secret holds %q", got)
	}
	s := NewSecret("wJalr")
	for name, s := range map[string]string{"String": s.String(), "%v": fmt.Sprint(s), "%#v": fmt.Sprintf("%#v", s), "%d": fmt.Sprintf("%d", s), "nested": fmt.Sprintf("%+v", struct{ S Secret }{s}), "slog": s.LogValue().String()} {
		if !strings.Contains(s, "[secret]") {
			t.Errorf("%s gives %q: a reader should see that something was left out", name, s)
		}
	}
	for name, err := range map[string]error{"JSON": second(NewSecret("wJalr").MarshalJSON()), "text": second(NewSecret("wJalr").MarshalText()), "binary": second(NewSecret("wJalr").MarshalBinary())} {
		if err == nil {
			t.Errorf("%s: marshalled without an error, so that a payload would go out without the secret it is to hold", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// The secret's value leaves its type in two places: where it is stored and where
// calls are signed with it. Anywhere else it could end up in an answer or a log.
func TestReveal(t *testing.T) {
	allowed := []string{"pkg/awssecrets", "pkg/awssts"}
	const root = "../.."
	found := map[string]int{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), ".") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		files := token.NewFileSet()
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		folder, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr) // a method call, and a method value or expression too
			if !ok || s.Sel.Name != "Reveal" {
				return true
			}
			found[filepath.ToSlash(folder)]++
			if !slices.Contains(allowed, filepath.ToSlash(folder)) {
				t.Errorf("%s reveals a secret; only %v may, to store it and to sign calls", files.Position(s.Pos()), allowed)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range allowed {
		if found[folder] != 1 {
			t.Errorf("%s reveals a secret in %d places, want one", folder, found[folder])
		}
	}
}
