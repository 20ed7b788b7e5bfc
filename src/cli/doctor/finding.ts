import { formatJson } from '../table.ts';

/** Result of one check. */
export interface Finding {
  readonly what: string;
  readonly level: 'ok' | 'warning' | 'problem';
  /** The finding in words. */
  readonly message: string;
  /** The remedy, for a fault. */
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

/** Text for people, or JSON for programs. */
export function formatFindings(findings: readonly Finding[], json: boolean): string {
  if (json) {
    return formatJson(findings);
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
