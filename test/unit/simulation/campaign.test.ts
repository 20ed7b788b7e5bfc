import { describe, expect, it } from 'vitest';
import { runCampaign } from '../../simulation/campaign.ts';
import { type Mutation, mutations } from '../../simulation/mutations.ts';
import { patience } from '../../support/patience.ts';

describe('a seed', () => {
  it(
    'runs the same way twice, beside others and after them',
    async () => {
      const alone = await runCampaign({ seeds: [101], steps: 1_500 });
      const others = await runCampaign({ seeds: [102, 103, 101], steps: 1_500 });
      expect(alone[0]?.violation).toBeUndefined();
      expect(others.find(({ seed }) => seed === 101)?.hash).toBe(alone[0]?.hash);
      expect(new Set(others.map(({ hash }) => hash)).size).toBe(3);
    },
    120_000 * patience(),
  );

  it(
    'that fails does so again, at the same step, with the same trace',
    async () => {
      const [{ changes, found, inits = false, seed, within }] = mutations.filter(({ name }) =>
        name.includes('sent again'),
      ) as [Mutation];
      const [first] = await runCampaign({ seeds: [seed], steps: within, changes, inits });
      const [second] = await runCampaign({ seeds: [seed], steps: within, changes, inits });
      expect(first?.violation).toMatch(found);
      expect(first?.trace.join('\n')).toMatch(found);
      expect(second).toEqual(first);
    },
    120_000 * patience(),
  );
});
