/** Fields that are read of a report of vitest (`--reporter json`). */
export interface Report {
  readonly testResults: readonly {
    /** Absolute path of a file. */
    readonly name: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

/** How many tests there were. Those that were skipped are among `total` only. */
export interface Tally {
  readonly passed: number;
  readonly failed: number;
  readonly total: number;
}

/**
 * Counts the tests of `files`. A file in which no test passed counts as a test that failed: it could not be loaded, or
 * no such file was found. So does an exit code of vitest that the tests do not explain: a hook or the set-up failed.
 */
export function tally(files: readonly string[], { testResults }: Report, exitCode: number): Tally {
  const results = testResults.flatMap(({ assertionResults }) => assertionResults);
  const count = (status: string): number => results.filter((each) => each.status === status).length;
  const silent = files.filter(
    (file) =>
      !testResults.some(
        ({ name, assertionResults }) =>
          name.endsWith(`/${file}`) && assertionResults.some(({ status }) => status === 'passed'),
      ),
  );
  const failed = count('failed') + silent.length;
  const unexplained = exitCode !== 0 && failed === 0 ? 1 : 0;
  return {
    passed: count('passed'),
    failed: failed + unexplained,
    total: results.length + silent.length + unexplained,
  };
}
