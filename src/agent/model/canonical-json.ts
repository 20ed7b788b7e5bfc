/**
 * JSON with names in order and the members of a list by their `type`, or else their text, so that equal contents give
 * equal text. For lists whose order says nothing, such as conditions.
 */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) => {
    if (Array.isArray(part)) {
      return part.toSorted((a, b) => compareText(rank(a), rank(b)));
    }
    if (typeof part === 'object' && part !== null) {
      return Object.fromEntries(Object.entries(part).toSorted(([a], [b]) => compareText(a, b)));
    }
    return part;
  });
}

function rank(value: unknown): string {
  return typeof value === 'object' && value !== null && 'type' in value ? String(value.type) : String(value);
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
