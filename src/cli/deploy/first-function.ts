import type { Language } from '../build/language.ts';

/** A file of a first function: its name in the folder, and its text. */
export interface FirstFile {
  readonly name: string;
  readonly text: string;
}

/**
 * The files of a first function: a greeting, which remembers whom it greeted before.
 *
 * @param name of the function
 */
export function firstFunction(language: Language, name: string): readonly FirstFile[] {
  return [...sources[language](name), { name: 'README.md', text: readme(language, name) }];
}

const sources: Readonly<Record<Language, (name: string) => readonly FirstFile[]>> = {
  python: () => [
    {
      name: 'app.py',
      text: `# Lives as long as the worker: a paused worker keeps it.
greeted = []


def handler(event, context):
    name = event.get("name", "world")
    answer = {"greeting": f"Hello, {name}!", "before you": list(greeted)}
    greeted.append(name)
    print("greeting", name)
    return answer
`,
    },
    { name: 'requirements.txt', text: '# A package on each line, with its version, such as requests==2.32.5\n' },
  ],
  node: (name) => [
    {
      name: 'index.mjs',
      text: `// Lives as long as the worker: a paused worker keeps it.
const greeted = [];

export const handler = async (event) => {
  const { name = 'world' } = event;
  const answer = { greeting: \`Hello, \${name}!\`, 'before you': [...greeted] };
  greeted.push(name);
  console.log('greeting', name);
  return answer;
};
`,
    },
    { name: 'package.json', text: `${JSON.stringify({ name, private: true, type: 'module' }, undefined, 2)}\n` },
  ],
  go: (name) => [
    {
      name: 'main.go',
      text: `package main

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"
)

type event struct {
	Name string \`json:"name"\`
}

type answer struct {
	Greeting string   \`json:"greeting"\`
	Before   []string \`json:"before you"\`
}

// Lives as long as the worker: a paused worker keeps it.
var greeted = []string{}

func handle(_ context.Context, e event) (answer, error) {
	name := e.Name
	if name == "" {
		name = "world"
	}
	greeting := answer{Greeting: fmt.Sprintf("Hello, %s!", name), Before: greeted}
	greeted = append(greeted, name)
	fmt.Println("greeting", name)
	return greeting, nil
}

func main() {
	lambda.Start(handle)
}
`,
    },
    // Some names alone are Go's own: go, toolchain.
    { name: 'go.mod', text: `module example.com/${name}\n\ngo 1.26\n\nrequire github.com/aws/aws-lambda-go v1.55.1\n` },
    {
      name: 'go.sum',
      text: `github.com/aws/aws-lambda-go v1.55.1 h1:We2cCp4BwqqH/JW+bEEo1FhgG71rslvjfi4y7KmlrR0=
github.com/aws/aws-lambda-go v1.55.1/go.mod h1:V+NzkHNR6vBC8C1PDloqSLE+7jYWFiPvJJFiCiTm8nE=
`,
    },
  ],
};

const about: Readonly<Record<Language, string>> = {
  python: '`app.py` has the handler, `requirements.txt` its packages.',
  node: '`index.mjs` has the handler, `package.json` its packages.',
  go: '`main.go` has the handler, and hands it to the runtime client.',
};

function readme(language: Language, name: string): string {
  return `# ${name}\n\n${about[language]} \`esb deploy .\` here makes the image, pushes it, and tells how to call it.\n`;
}
