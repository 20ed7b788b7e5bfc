/** Text as it may stand in a cell of a table: one line, without the sign between cells. */
export function cell(text: string): string {
  return text.replaceAll(/\s+/g, ' ').trim().replaceAll('|', '\\|');
}

/** A table; cells may hold anything. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}

/** Text in the type of programs, also when it holds a backquote. */
export function code(text: string): string {
  return text.includes('`') ? `\`\` ${text} \`\`` : `\`${text}\``;
}

/** Words in angle brackets, which some renderers take for tags and leave out, in the type of programs. */
export function withoutTags(text: string): string {
  return text.replaceAll(/`[^`]*`|<[^>`]+>/g, (part) => (part.startsWith('`') ? part : code(part)));
}

/** A paragraph in lines of at most `width` characters, where its words allow. */
export function wrapped(text: string, width = 120): string {
  const lines: string[] = [];
  for (const word of text.split(/\s+/).filter((each) => each !== '')) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > width) {
      lines.push(word);
    } else {
      lines[lines.length - 1] = `${last} ${word}`;
    }
  }
  return lines.join('\n');
}
