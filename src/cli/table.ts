/** Columns as wide as their widest cell, with two blanks between them. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    for (const [column, cell] of row.entries()) {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    }
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join('');
}

/** JSON for programs, which people can read as well. */
export function formatJson(value: unknown): string {
  return `${JSON.stringify(value, undefined, 2)}\n`;
}

/** A list in the two forms that a command has: a table for people, and JSON. */
export interface ListForm<T> {
  readonly header: readonly string[];
  readonly rowOf: (item: T) => readonly string[];
  /** Default: the item itself. */
  readonly entryOf?: (item: T) => unknown;
}

/** The text of a list, as JSON where `json` is set. */
export function formatList<T>(items: readonly T[], json: boolean, { entryOf, header, rowOf }: ListForm<T>): string {
  if (json) {
    return formatJson(entryOf === undefined ? items : items.map(entryOf));
  }
  return formatTable([header, ...items.map(rowOf)]);
}
