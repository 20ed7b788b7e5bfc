import { code, table, wrapped } from './markdown.ts';
import type { Product } from './product.ts';
import { type ReasonSection, reasonSections } from './reason-table.ts';

const introduction = `# Reasons

Each condition of a resource and each Event has a reason, one word for programs. The message beside it is for people and
may change. [How to find out what is wrong](../how-to/debug.md) tells where to find them.

\`npm run generate\` makes this page from the tables of the source. A reason without an entry in them does not compile.
`;

/** The reference of reasons. */
export function reasonDocument(): readonly Product[] {
  return [{ path: 'docs/reference/reasons.md', text: [introduction, ...reasonSections.map(section)].join('\n') }];
}

function section({ title, introduction: about, rows }: ReasonSection): string {
  const withStatus = rows.some(([status]) => status !== '');
  const cells = rows.map(([status, reason, meaning]) =>
    withStatus ? [status, code(reason), meaning] : [code(reason), meaning],
  );
  const head = withStatus ? ['', 'reason', 'meaning'] : ['reason', 'meaning'];
  return `## ${title}\n\n${wrapped(about)}\n\n${table(head, cells)}\n`;
}
