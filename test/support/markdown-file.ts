/** A link of a Markdown file, as it is written. */
export interface MarkdownLink {
  /** Counted from 1. */
  readonly line: number;
  readonly target: string;
}

/** A line of a block of code that a reader is to run, and the line of the file that it begins at. */
export interface MarkdownCommand {
  readonly line: number;
  readonly text: string;
}

/** Languages of blocks whose lines are commands. */
const shells: ReadonlySet<string> = new Set(['sh', 'shell', 'bash', 'console']);

/** The lines outside of blocks of code, those inside left empty, so that numbers of lines stay. */
function proseOf(text: string): readonly string[] {
  let fence: string | undefined;
  return text.split('\n').map((line) => {
    const mark = /^\s*(```+|~~~+)/.exec(line)?.[1];
    if (mark !== undefined) {
      if (fence === undefined) {
        fence = mark;
      } else if (mark.startsWith(fence)) {
        fence = undefined;
      }
      return '';
    }
    return fence === undefined ? line : '';
  });
}

/** Every link and picture outside of code. */
export function linksOf(text: string): readonly MarkdownLink[] {
  return proseOf(text).flatMap((line, index) => {
    const prose = line.replaceAll(/(`+).*?\1/g, (code) => (code.includes('](') ? '' : code));
    const inline = [...prose.matchAll(/\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)/g)];
    const defined = [...prose.matchAll(/^\[[^\]]+\]:\s+<?(\S+?)>?\s*$/g)];
    return [...inline, ...defined].map((match) => ({ line: index + 1, target: match[1] ?? '' }));
  });
}

/** The places in a file that a link may point to, named as GitHub names headings. */
export function anchorsOf(text: string): ReadonlySet<string> {
  const taken = new Map<string, number>();
  const anchors = new Set<string>();
  for (const line of proseOf(text)) {
    for (const match of line.matchAll(/<a (?:name|id)="([^"]+)"/g)) {
      anchors.add(match[1] ?? '');
    }
    const heading = /^#{1,6}\s+(.*?)\s*#*$/.exec(line)?.[1];
    if (heading !== undefined) {
      const anchor = heading
        .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\p{M} _-]/gu, '')
        .replaceAll(' ', '-');
      const count = taken.get(anchor) ?? 0;
      taken.set(anchor, count + 1);
      anchors.add(count === 0 ? anchor : `${anchor}-${count}`);
    }
  }
  return anchors;
}

/**
 * The commands of the blocks of shell: lines that end with a backslash are joined with the next, and where a block
 * shows a prompt only the lines that have it are commands.
 */
export function commandsOf(text: string): readonly MarkdownCommand[] {
  const blocks: { readonly line: number; readonly lines: string[] }[] = [];
  let block: { readonly line: number; readonly lines: string[] } | undefined;
  let isInside = false;
  for (const [index, line] of text.split('\n').entries()) {
    const language = /^\s*```+\s*(\w*)/.exec(line)?.[1];
    if (language === undefined) {
      block?.lines.push(line.trim());
    } else if (isInside) {
      isInside = false;
      block = undefined;
    } else {
      isInside = true;
      block = shells.has(language) ? { line: index + 2, lines: [] } : undefined;
      if (block !== undefined) {
        blocks.push(block);
      }
    }
  }
  return blocks.flatMap(({ line, lines }) => {
    const hasPrompt = lines.some((each) => each.startsWith('$ '));
    const commands: { line: number; text: string }[] = [];
    let goesOn = false;
    for (const [index, each] of lines.entries()) {
      const last = commands.at(-1);
      const own = hasPrompt ? each.replace(/^\$ /, '') : each;
      if (goesOn && last !== undefined) {
        last.text = `${last.text.slice(0, -1).trimEnd()} ${each}`;
      } else if (each !== '' && !each.startsWith('#') && (!hasPrompt || each.startsWith('$ '))) {
        commands.push({ line: line + index, text: own });
      } else {
        continue;
      }
      goesOn = each.endsWith('\\');
    }
    return commands;
  });
}

/** Words in the type of programs within the text. */
export function inlineCodeOf(text: string): readonly MarkdownCommand[] {
  return proseOf(text).flatMap((line, index) =>
    [...line.matchAll(/(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)/g)].map((match) => ({
      line: index + 1,
      // Cells of tables have to write the sign between cells so.
      text: (match[2] ?? '').trim().replaceAll('\\|', '|'),
    })),
  );
}

/** The blocks of shell as they are, for a test that does what a page says. */
export function shellBlocksOf(text: string): readonly string[] {
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .filter((match) => shells.has(match[1] ?? ''))
    .map((match) => match[2] ?? '');
}
