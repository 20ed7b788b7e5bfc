/** How a call found its worker, as `X-Esb-Start` and metrics name it; empty when it ran nowhere. */
export type StartKind = 'warm' | 'resumed' | 'cold' | '';

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
