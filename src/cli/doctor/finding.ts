/** One thing that was looked at. */
export interface Finding {
  readonly what: string;
  readonly level: 'ok' | 'warning' | 'problem';
  /** What was found. */
  readonly message: string;
  /** What to do about it, where it is not well. */
  readonly mend?: string;
}

export function well(what: string, message: string): Finding {
  return { what, level: 'ok', message };
}

export function warning(what: string, message: string, mend: string): Finding {
  return { what, level: 'warning', message, mend };
}

export function problem(what: string, message: string, mend: string): Finding {
  return { what, level: 'problem', message, mend };
}

/** For people, or as JSON for programs. */
export function formatFindings(findings: readonly Finding[], json: boolean): string {
  if (json) {
    return `${JSON.stringify(findings, undefined, 2)}\n`;
  }
  const signs = { ok: '✓', warning: '!', problem: '✗' } as const;
  return findings
    .map(({ what, level, message, mend }) => {
      const advice = mend === undefined ? '' : `    ${mend.replaceAll('\n', '\n    ')}\n`;
      return `${signs[level]} ${what}: ${message}\n${advice}`;
    })
    .join('');
}

/** 1 when there is a problem. */
export function exitCodeOf(findings: readonly Finding[]): number {
  return findings.some(({ level }) => level === 'problem') ? 1 : 0;
}
