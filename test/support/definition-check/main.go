// Command definition-check judges CustomResourceDefinitions as an API server does that is asked to store them: their
// schemas, their rules, the cost of these, and the defaults by the rules. Arguments are YAML files of one definition
// each; every finding is a line, and the exit code is 1 where there is one.
package main

import (
	"context"
	"fmt"
	"os"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
)

func main() {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDecoder(apiextensions.SchemeGroupVersion)
	code := 0
	for _, file := range os.Args[1:] {
		for _, finding := range findings(decoder, file) {
			fmt.Printf("%s: %s\n", file, finding)
			code = 1
		}
	}
	os.Exit(code)
}

func findings(decoder runtime.Decoder, file string) []string {
	text, err := os.ReadFile(file)
	if err != nil {
		return []string{err.Error()}
	}
	definition := &apiextensions.CustomResourceDefinition{}
	if err := runtime.DecodeInto(decoder, text, definition); err != nil {
		return []string{err.Error()}
	}
	var all []string
	for _, each := range validation.ValidateCustomResourceDefinition(context.Background(), definition) {
		all = append(all, each.Error())
	}
	return all
}
