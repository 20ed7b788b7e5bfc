import { describe, expect, it } from 'vitest';
import { commandFault, deadLinks, documentationRoot, esbWords, filesEnding, textOf } from '../support/documentation.ts';
import { commandsOf, inlineCodeOf, linksOf } from '../support/markdown-file.ts';
import { simpleCommands } from '../support/shell-words.ts';

const pages = filesEnding(['.md']);

/** Commands of ours that a page tells its readers to run, and those that it mentions. */
function commandsIn(page: string, text: string) {
  const whole = commandsOf(text).map((command) => ({ ...command, isWhole: true }));
  // In running text arguments are left out.
  const mentioned = inlineCodeOf(text).map((command) => ({ ...command, isWhole: false }));
  return [...whole, ...mentioned].flatMap(({ line, text: commandLine, isWhole }) =>
    simpleCommands(commandLine).flatMap((words) => {
      const own = esbWords(words);
      return own === undefined || own.length === 0 ? [] : [{ where: `${page}:${line}`, own, isWhole }];
    }),
  );
}

function commandFaults(page: string, text: string): readonly string[] {
  return commandsIn(page, text).flatMap(({ where, own, isWhole }) => {
    const fault = commandFault(own, isWhole);
    return fault === undefined ? [] : [`${where}: esb ${own.join(' ')}: ${fault}`];
  });
}

describe('the documentation', () => {
  it('is found', () => {
    expect(pages).toEqual(expect.arrayContaining(['README.md', 'docs/README.md', 'docs/adr/README.md']));
    expect(pages.length).toBeGreaterThan(40);
    expect(pages.flatMap((page) => linksOf(textOf(page))).length).toBeGreaterThan(150);
    expect(pages.flatMap((page) => commandsIn(page, textOf(page))).length).toBeGreaterThan(60);
  });

  it.each(pages)('has no dead link in %s', (page) => {
    expect(deadLinks(page, textOf(page))).toEqual([]);
  });

  it.each(pages)('has no command in %s that esb does not take', (page) => {
    expect(commandFaults(page, textOf(page))).toEqual([]);
  });

  it.each(pages)('opens each block of code of %s with no more than its language', (page) => {
    // A block whose lines were joined is running text to a reader, and to the tests that run what pages say.
    const fences = textOf(page)
      .split('\n')
      .filter((line) => /^\s*```/.test(line));
    expect(fences.filter((line) => !/^\s*```+\w*$/.test(line))).toEqual([]);
  });

  it('has every page in its index', () => {
    const index = linksOf(textOf('docs/README.md')).map(({ target }) => `docs/${target}`);
    const kinds = /^docs\/(tutorial|how-to|reference|explanation)\//;
    expect(pages.filter((page) => kinds.test(page) && !index.includes(page))).toEqual([]);
  });

  it('has no name in the type of programs of a file of the source that is not there', () => {
    const sources = filesEnding(['.ts', '.mjs']);
    // Decisions tell of what was.
    const found = pages
      .filter((page) => !page.startsWith('docs/adr/'))
      .flatMap((page) =>
        inlineCodeOf(textOf(page)).flatMap(({ line, text }) =>
          [...text.matchAll(/(?<![^\s=])((?:[\w.-]+\/)*[\w.-]+\.(?:ts|mjs))(?!\S)/g)].map((match) => ({
            where: `${page}:${line}`,
            name: match[1] ?? '',
          })),
        ),
      );
    expect(found.length).toBeGreaterThan(80);
    // The reader of a how-to writes that one.
    const isThere = (name: string): boolean =>
      name === 'call.mjs' || sources.some((file) => file === name || file.endsWith(`/${name}`));
    expect(found.filter(({ name }) => !isThere(name))).toEqual([]);
  });

  it('is there where the source and the other files name a page of it, and so is each file that they name', () => {
    const files = filesEnding(['.ts', '.mjs', '.yaml', '.yml', '.sh', '.proto', '.json', '.tpl', '.txt', '.md']);
    const there = new Set(files);
    const folders = 'docs|src|test|local|hack|crds|charts|proto|cni|examples';
    const path = new RegExp(
      `(?<![\\w/.-])(?:${folders})/(?:[\\w.-]+/)*[\\w-]+(?:\\.[\\w-]+)*\\.(?:ts|md|sh|yaml|proto)\\b`,
      'g',
    );
    const named = files.flatMap((file) => [...textOf(file).matchAll(path)].map((match) => ({ file, name: match[0] })));
    expect(named.length).toBeGreaterThan(200);
    // The durations are those of the last run that was recorded, and the runner's test makes names of files up.
    const others = new Set(['test/durations.json', 'test/unit/runner.test.ts']);
    expect(named.filter(({ file, name }) => !others.has(file) && !there.has(name))).toEqual([]);
  });
});

describe('what the checks of the documentation find', () => {
  it.each([
    ['[gone](nothing.md)', 'README.md:1: nothing.md is not there'],
    ['# One\n\n[two](#two)', 'README.md:3: #two names no heading'],
    ['[there](docs/adr/README.md#nowhere)', 'README.md:1: docs/adr/README.md#nowhere names no heading'],
    ['[out](../elsewhere.md)', 'README.md:1: ../elsewhere.md is not there'],
  ])('in %j: a dead link', (text, fault) => {
    expect(deadLinks('README.md', text)).toEqual([fault]);
  });

  it.each([
    ['[there](docs/adr/README.md#decisions)'],
    ['## Who does *what*, and `when`?\n\n[here](#who-does-what-and-when)'],
    ['[elsewhere](https://example.com/nothing.md)'],
    ['```sh\necho "[not](one.md)"\n```'],
  ])('in %j: none', (text) => {
    expect(deadLinks('README.md', text)).toEqual([]);
  });

  it.each([
    ['```sh\nesb fly\n```', 'p:2: esb fly: no such command: fly'],
    ['```sh\nesb logs --fast hello | less\n```', 'p:2: esb logs --fast hello: unknown: --fast hello'],
    ['```sh\nesb logs\n```', 'p:2: esb logs: too few arguments: 0 of 1'],
    ['```sh\nA=1 npx esb ps one  # all\n```', 'p:2: esb ps one: too many arguments: one'],
    [
      '`esb doctor node --max-workers many` does',
      "p:1: esb doctor node --max-workers many: error: option '--max-workers <n>' argument 'many' is invalid. It must be a whole number of at least 1.",
    ],
    ['```sh\nkubectl -n esb-system exec ds/esb-agent -- esb nurse\n```', 'p:2: esb nurse: no such command: nurse'],
    ['`npm run up -- --node 2`', 'p:1: esb up --node 2: unknown: --node 2'],
  ])('in %j: a command that is not there', (text, fault) => {
    expect(commandFaults('p', text)).toEqual([fault]);
  });

  it.each([
    ['```sh\nesb invoke hello \'{"a": 1}\' --tail > out.json\n```'],
    ['```console\n$ esb logs hello -f \\\n    --tail 20\nesb says something\n```'],
    ['`esb invoke` and `esb agent --deny-cidr 0.0.0.0/0 …`'],
    ['`esb agent --drain` says how long'],
    ['```text\nesb nonsense\n```'],
  ])('in %j: none', (text) => {
    expect(commandFaults('p', text)).toEqual([]);
  });

  it('looks at the repository that it is in', () => {
    expect(documentationRoot).toBe(process.cwd());
  });
});
