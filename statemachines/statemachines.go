// Package statemachines holds the workflows: one *.asl.json file each, which the
// template deploys and which tests run by the interpreter in asl.
package statemachines

import (
	"embed"
	"fmt"
	"strings"

	"iamkeys/statemachines/asl"
)

//go:embed *.asl.json
var files embed.FS

// Names lists the workflows, such as "lifecycle".
func Names() []string {
	entries, _ := files.ReadDir(".") // an embedded folder is always there
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".asl.json"))
	}
	return names
}

// Load parses a workflow after filling in ${...} as the template's
// DefinitionSubstitutions do. Those without a value stay as they are.
func Load(name string, substitutions map[string]string) (*asl.Machine, error) {
	source, err := files.ReadFile(name + ".asl.json")
	if err != nil {
		return nil, fmt.Errorf("reading workflow %s: %w", name, err)
	}
	text := string(source)
	for from, to := range substitutions {
		text = strings.ReplaceAll(text, "${"+from+"}", to)
	}
	m, err := asl.Parse([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("workflow %s: %w", name, err)
	}
	return m, nil
}
