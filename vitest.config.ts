import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';
import { withoutInstance } from './hack/instance-variables.mjs';
import { pitfalls } from './test/pitfalls.ts';
import { filesAlone } from './test/runner/files.ts';
import { LongestFirst } from './test/support/longest-first.ts';
import { patience } from './test/support/patience.ts';
import { tenantAttempts } from './test/tenant-attempts.ts';

/** Tags that tests may carry; vitest refuses any other. */
const tags = [
  ...Object.entries(pitfalls).map(([name, description]) => ({ name, description })),
  ...Object.entries(tenantAttempts).map(([name, { attempt }]) => ({ name, description: attempt })),
];

// Without the runner, which does the same: tests have instances of their own.
process.env = withoutInstance(process.env);

export default defineConfig({
  test: {
    tags,
    restoreMocks: true,
    sequence: { hooks: 'stack', sequencer: LongestFirst },
    testTimeout: 10_000 * patience(),
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts'],
          isolate: true,
          // One for each processor; vitest would leave one processor to itself.
          maxWorkers: availableParallelism(),
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude: Object.keys(filesAlone),
          // Each file has parts, networks, mounts and control groups of its own, and waits more than it computes.
          maxWorkers: Math.ceil(availableParallelism() * 1.5),
          // By itself where several projects are run, which have other numbers of workers.
          sequence: { groupOrder: 1 },
          testTimeout: 120_000 * patience(),
          hookTimeout: 180_000 * patience(),
        },
      },
      {
        extends: true,
        test: {
          name: 'alone',
          include: Object.keys(filesAlone),
          fileParallelism: false,
          sequence: { groupOrder: 2 },
          testTimeout: 120_000 * patience(),
          hookTimeout: 180_000 * patience(),
        },
      },
      {
        // Brings up and takes down an instance of its own: never beside another one.
        extends: true,
        test: {
          name: 'install',
          include: ['test/e2e/01-*.test.ts'],
          testTimeout: 120_000,
          hookTimeout: 600_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          exclude: ['test/e2e/01-*.test.ts'],
          globalSetup: ['test/e2e/support/setup.ts'],
          fileParallelism: false,
          testTimeout: 180_000 * patience(),
          hookTimeout: 600_000 * patience(),
        },
      },
    ],
  },
});
