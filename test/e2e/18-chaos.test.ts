import { describe, expect, it } from 'vitest';
import { run } from '../support/command.ts';

/** A new walk in every run; `npm run test:chaos -- --seed N` goes it again. */
const seed = Math.floor(Math.random() * 1_000_000);

describe('a random walk over what may happen to workers', () => {
  it(`by the seed ${seed} comes to rest without a trace`, { tags: ['P17', 'M7'], timeout: 420_000 }, async () => {
    const { code, stdout } = await run(
      process.execPath,
      [
        new URL('../chaos/main.ts', import.meta.url).pathname,
        ...['--seed', String(seed), '--workers', '8', '--steps', '80'],
        ...['--longest-fault', '4000', '--rest-within', '120000', '--pace', '1'],
        // A shim that is stopped for good takes up to two minutes: long walks have these.
        ...['--only', 'kill,stop,plugin,disk,clock,init'],
      ],
      { mayFail: true, timeoutMs: 400_000 },
    );
    const end = stdout.slice(-12_000);
    expect(end).toContain(`chaos passed: seed ${seed}, 80 steps`);
    expect(code, end).toBe(0);
  });
});
