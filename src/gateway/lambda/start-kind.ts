/** How a call found its worker, as `X-Esb-Start` and metrics name it; empty when it ran nowhere. */
export type StartKind = 'warm' | 'resumed' | 'cold' | '';

/** What an agent may say that a call found. Anything else is no word of ours, and is told to nobody. */
const FOUND: readonly string[] = ['running', 'paused', 'absent'];

/** What the agent says that the call found, of the words that there are; empty for any other. */
export function foundState(start: string): string {
  return FOUND.includes(start) ? start : '';
}

/** @param start what the agent says that the call found: `running`, `paused` or `absent`; empty for nothing */
export function startKind(start: string): StartKind {
  switch (start) {
    case '':
      return '';
    case 'running':
      return 'warm';
    case 'paused':
      return 'resumed';
    default:
      return 'cold';
  }
}
