/** Results of the checks of a run. */
export interface Report {
  /**
   * Runs one check. The report shows its return value beside its name. When it throws, the run goes on and has failed.
   */
  check(name: string, work: () => Promise<string>): Promise<boolean>;
  /** Told with a check that fails, so that its cause can be found. */
  diagnose: () => Promise<string>;
  /** Checks so far, and those that failed. */
  readonly passed: number;
  readonly failed: readonly string[];
}

export function createReport(write: (text: string) => void): Report {
  const failed: string[] = [];
  let passed = 0;
  return {
    async check(name, work) {
      const began = performance.now();
      const seconds = (): string => `${((performance.now() - began) / 1000).toFixed(1)} s`;
      try {
        const told = await work();
        passed += 1;
        write(`  ✓ ${name} (${seconds()}): ${told}\n`);
        return true;
      } catch (error) {
        failed.push(name);
        write(`  ✗ ${name} (${seconds()})\n${indent(textOf(error))}\n`);
        write(`${indent(await this.diagnose().catch(textOf))}\n`);
        return false;
      }
    },
    diagnose: () => Promise.resolve(''),
    get passed() {
      return passed;
    },
    failed,
  };
}

function textOf(error: unknown): string {
  if (!(error instanceof Error)) {
    return String(error);
  }
  const cause = error.cause === undefined ? '' : `\ncause: ${textOf(error.cause)}`;
  return `${error.message}${cause}`;
}

function indent(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => `      ${line}`)
    .join('\n');
}
