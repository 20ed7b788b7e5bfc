import { expect, it } from 'vitest';
import { commentFaults, documentFaults } from '../../../hack/prose.ts';

const messages = (faults: readonly { readonly message: string }[]): readonly string[] =>
  faults.map(({ message }) => message);

it('refuses a document sentence whose subject names nothing', () => {
  expect(documentFaults('The gate opens.\nIt lets calls\nin. What follows is a wait.')).toEqual([
    { line: 1, message: 'subject names nothing: "It lets calls in."' },
    { line: 1, message: 'subject names nothing: "What follows is a wait."' },
  ]);
});

it('refuses words that are out, also in a table', () => {
  expect(messages(documentFaults('| a | made anew |'))).toEqual(['"anew": write "again"']);
});

it('lets questions, links, headings, code and determiners be', () => {
  const text =
    '# What is there\n\nWhat now? That gate opens. [What stays](x.md) tells.\n\n`nobody`\n\n```\nIt is.\n```\n';
  expect(documentFaults(text)).toEqual([]);
});

it('refuses a line of a document that is longer than 120 characters', () => {
  expect(messages(documentFaults(`${'word '.repeat(30)}\n`))).toEqual(['longer than 120 characters']);
});

it('reads the comments of a source file and not its code', () => {
  const text = "/**\n * Gate of a node.\n *\n * @param limit what nobody says\n */\nconst It = 'nobody';\n// It is\n";
  expect(commentFaults(text)).toEqual([
    { line: 4, message: '"nobody": name who does not, or use the passive for once' },
    { line: 7, message: 'subject names nothing: "It is"' },
  ]);
});

it('refuses a docstring that begins with a pointer to another declaration', () => {
  const text =
    '/** The same for a node. */\nconst a = 1;\n/**\n * Those of\n * a worker. As in OCI.\n */\n// As in OCI.\n';
  expect(commentFaults(text)).toEqual([
    { line: 1, message: 'a docstring begins with its subject, not with "The same"' },
    { line: 4, message: 'a docstring begins with its subject, not with "Those"' },
  ]);
});
