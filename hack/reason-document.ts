import { code, table, wrapped } from './markdown.ts';
import type { Product } from './product.ts';
import { type FoundReason, sourceReasons, sourceWords } from './reason-scan.ts';
import { type ReasonSection, reasonSections } from './reason-table.ts';

const introduction = `# Reasons

Each condition of a resource and each Event has a reason, one word for programs. The message beside it is for people and may change.
How to find them is in [how to find out what is wrong](../how-to/debug.md).

This page is made by \`npm run generate\`, which fails when the source has a reason that is not told here, or this page one that the source does not have.
`;

/**
 * The reference of reasons.
 *
 * @throws {Error} when the table and the source do not have the same reasons
 */
export async function reasonDocument(root: string): Promise<readonly Product[]> {
  const faults = reasonFaults(reasonSections, await sourceReasons(root), await sourceWords(root));
  if (faults.length > 0) {
    throw new Error(`hack/reason-table.ts does not fit the source:\n  ${faults.join('\n  ')}`);
  }
  return [
    { path: 'docs/reference/reasons.md', text: [introduction, ...reasonSections.map(section)].join('\n') },
  ];
}

/** What the table lacks, and what it has that the source does not. */
export function reasonFaults(
  sections: readonly ReasonSection[],
  found: readonly FoundReason[],
  words: ReadonlySet<string>,
): readonly string[] {
  const told = new Set(sections.flatMap(({ rows }) => rows.map(({ reason }) => reason)));
  return [
    ...found
      .filter(({ reason }) => !told.has(reason))
      .map(({ reason, file }) => `${file} has the reason ${reason}: say there what it means`),
    ...[...told]
      .filter((reason) => !words.has(reason))
      .map((reason) => `it tells of ${reason}, which is nowhere in src/`),
  ];
}

function section({ title, introduction: about, rows }: ReasonSection): string {
  const withStatus = rows.some(({ status }) => status !== '');
  const cells = rows.map(({ status, reason, meaning }) =>
    withStatus ? [status, code(reason), meaning] : [code(reason), meaning],
  );
  const head = withStatus ? ['', 'reason', 'meaning'] : ['reason', 'meaning'];
  return `## ${title}\n\n${wrapped(about)}\n\n${table(head, cells)}\n`;
}
