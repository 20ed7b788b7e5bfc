import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCampaign } from '../../simulation/campaign.ts';
import { changedSource } from '../../simulation/hooks.ts';
import { mutations } from '../../simulation/mutations.ts';
import { patience } from '../../support/patience.ts';

const root = join(import.meta.dirname, '../../..');

describe('the simulation finds that', () => {
  it.each(mutations)(
    '$name: seed $seed, within $within steps',
    async ({ changes, found, inits = false, seed, within }) => {
      for (const change of changes) {
        const source = readFileSync(join(root, change.file), 'utf8');
        expect(changedSource(source, [change])).not.toBe(source);
      }
      const [result] = await runCampaign({ seeds: [seed], steps: within, changes, inits });
      expect(result?.violation ?? 'none: another seed is needed, see docs/testing.md, Simulation').toMatch(found);
      expect(result?.steps).toBeLessThanOrEqual(within);
    },
    120_000 * patience(),
  );
});

describe('a change of the source', () => {
  const change = { file: 'a.ts', text: 'one', by: 'two' };

  it('replaces a text that stands there once', () => {
    expect(changedSource('one and three', [change])).toBe('two and three');
  });

  it.each(['nil', 'one and one'])('is refused for %s', (source) => {
    expect(() => changedSource(source, [change])).toThrow(/stands [02] times in a\.ts/);
  });
});
