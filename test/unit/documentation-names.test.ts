import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { resourceDefinitions, type Schema, versionOf } from '../../hack/resource-definition.ts';
import { createLocalProgram } from '../../local/command-line.ts';
import { documentationRoot, filesEnding, textOf } from '../support/documentation.ts';
import { commandsOf, inlineCodeOf } from '../support/markdown-file.ts';

/** Pages that tell of what is. Decisions tell of what was, too, and the other two of tests and benchmarks. */
const pages = filesEnding(['.md']).filter(
  (page) => !page.startsWith('docs/adr/') && !['docs/testing.md', 'docs/performance.md', 'CHANGELOG.md'].includes(page),
);

/** Flags of other programs that pages name without their program. */
const foreignFlags: ReadonlySet<string> = new Set([
  // helm, kubectl
  '--set',
  '--wait',
  '--plain-http',
  '--take-ownership',
  '--cascade',
  '--field-selector',
  '--group',
  '--reuse-values',
  '--reset-then-reuse-values',
  // pip, the AWS command line
  '--python-version',
  '--endpoint-url',
  // cluster-autoscaler
  '--max-graceful-termination-sec',
  // npm run image
  '--insecure',
  '--archive',
  '--sbom',
  // the emulator in an image
  '--runtime-interface-emulator-address',
  '--runtime-api-address',
]);

type Program = ReturnType<typeof createLocalProgram>;

function flagsOf(command: Program): readonly string[] {
  return [
    ...command.options.flatMap(({ long, short }) => [long ?? '', short ?? '']),
    ...command.commands.flatMap((each) => flagsOf(each as Program)),
  ];
}

/** Every path below `value`, with dots; lists and values of no kind end it. */
function pathsOf(value: unknown, above: string): readonly string[] {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return [above];
  }
  return [
    above,
    ...Object.entries(value).flatMap(([key, each]) => pathsOf(each, above === '' ? key : `${above}.${key}`)),
  ];
}

function fieldsOf(schema: Schema, above: string): readonly string[] {
  const below = Object.entries(schema.properties ?? {}).flatMap(([key, each]) =>
    fieldsOf(each, above === '' ? key : `${above}.${key}`),
  );
  return [above, ...below, ...(schema.items === undefined ? [] : fieldsOf(schema.items, above))];
}

/** Matches in the type of programs, with their places. */
function named(page: string, pattern: RegExp): readonly { readonly where: string; readonly name: string }[] {
  const text = textOf(page);
  return [...inlineCodeOf(text), ...commandsOf(text)].flatMap(({ line, text: code }) =>
    [...code.matchAll(pattern)].map((match) => ({ where: `${page}:${line}`, name: match[1] ?? '' })),
  );
}

/** Names that are not there, with where they stand. */
function missing(
  found: readonly { readonly where: string; readonly name: string }[],
  exists: (name: string) => boolean,
): readonly string[] {
  return found.filter(({ name }) => !exists(name)).map(({ where, name }) => `${where}: ${name}`);
}

describe('what pages name', () => {
  it('of flags, esb has', () => {
    const flags = new Set(flagsOf(createLocalProgram()));
    const found = pages.flatMap((page) => named(page, /^(--[a-z][a-z-]+)/g));
    expect(found.length).toBeGreaterThan(80);
    expect(missing(found, (name) => flags.has(name) || foreignFlags.has(name))).toEqual([]);
  });

  it('of fields, the resource definitions have', async () => {
    const definitions = await resourceDefinitions(documentationRoot);
    const fields = new Set(definitions.flatMap((each) => fieldsOf(versionOf(each).schema.openAPIV3Schema, '')));
    const found = pages.flatMap((page) => named(page, /^((?:spec|status)(?:\.[a-zA-Z]+)+)/g));
    expect(found.length).toBeGreaterThan(100);
    expect(missing(found, (name) => fields.has(name))).toEqual([]);
  });

  it('of values, the chart has', () => {
    const values = new Set(pathsOf(parse(textOf('charts/esb/values.yaml')), ''));
    const groups = 'image|crds|controller|hold|gateway|agent|uninstall|networkPolicy|metrics|test';
    const found = pages.flatMap((page) => [
      ...named(page, new RegExp(`^((?:${groups})(?:\\.[a-zA-Z]+)+)(?:=|$)`, 'g')),
      ...named(page, new RegExp(`(?:--set |,)((?:${groups})(?:\\.[a-zA-Z]+)+)=`, 'g')),
    ]);
    expect(found.length).toBeGreaterThan(80);
    expect(missing(found, (name) => values.has(name) || name.endsWith('.yaml'))).toEqual([]);
  });

  it('of metrics, the roles register', () => {
    const metrics = new Set(
      [...textOf('docs/reference/metrics.md').matchAll(/^\| `(esb_\w+)`/gm)].map((match) => match[1] ?? ''),
    );
    const found = pages.flatMap((page) => named(page, /\b(esb_(?:agent|gateway|controller|nodes|workers)\w*)/g));
    expect(metrics.size).toBeGreaterThan(40);
    expect(found.length).toBeGreaterThan(metrics.size);
    expect(
      missing(found, (name) => metrics.has(name) || metrics.has(name.replace(/_(bucket|sum|count)$/, ''))),
    ).toEqual([]);
  });

  it('is found where it is not there', () => {
    const found = [
      { where: 'README.md:1', name: '--max-workers' },
      { where: 'README.md:2', name: '--no-workers' },
    ];
    expect(missing(found, (name) => name === '--max-workers')).toEqual(['README.md:2: --no-workers']);
    expect(named('docs/how-to/placement.md', /^(agent\.memoryMiB)$/g).length).toBeGreaterThan(0);
  });
});
