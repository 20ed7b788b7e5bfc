/** Number of writes of the resources that are meant, of those that `writesBetween` gives. */
export function ofResources(writes: ReadonlyMap<string, number>, isMeant: (what: string) => boolean): number {
  return [...writes].reduce((sum, [what, count]) => sum + (isMeant(what) ? count : 0), 0);
}

/** Counts in words, for people. */
export function told(writes: ReadonlyMap<string, number>): string {
  const parts = [...writes]
    .toSorted(([one], [other]) => one.localeCompare(other))
    .map(([what, count]) => `${count} of ${what}`);
  return parts.length === 0 ? 'none' : parts.join(', ');
}
