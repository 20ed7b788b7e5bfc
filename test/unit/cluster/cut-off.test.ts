import { describe, expect, it } from 'vitest';
import { outside, servingNodes, toldLoad } from '../../cluster/cut-off.ts';
import type { EsbCluster } from '../../cluster/esb-cluster.ts';
import type { LoadFailure, LoadResult } from '../../cluster/steady-load.ts';

const CUT = Date.parse('2026-01-01T00:00:00Z');

/** A call that failed, by its begin and end in seconds after the cut. */
function failure(from: number, to: number, why = '503 not accepted'): LoadFailure {
  const at = new Date(CUT + to * 1_000).toISOString();
  return { at, functionName: 'home', call: `from ${from}`, outcome: '', afterMs: (to - from) * 1_000, why };
}

function result(...failures: readonly LoadFailure[]): LoadResult {
  return { answered: 7, accepted: [], failed: failures.length, longestMs: 12, failures };
}

describe('a node that is cut off', () => {
  it('is blamed for calls that had a part between the cut and the time at which nothing goes there', () => {
    const failures = [failure(-5, -1), failure(-1, 3), failure(20, 30), failure(59, 69), failure(61, 62)];
    const others = outside(result(...failures), CUT, CUT + 60_000);
    expect(others.map(({ call }) => call)).toEqual(['from -5', 'from 61']);
  });

  it('is told with the kinds of failures, and when the last one ended', () => {
    const times = { cutAt: CUT, detectedAt: CUT, settledAt: CUT, joinedAt: CUT, backAt: CUT };
    const given = result(failure(0, 3, 'EHOSTUNREACH connect'), failure(1, 4), failure(2, 5.5));
    expect(toldLoad(given, times)).toBe(
      '7 answered, 3 not (1 EHOSTUNREACH, 2 503), the last of these 5.5 s after the cut',
    );
    expect(toldLoad(result(), times)).toBe('7 answered, all, the longest after 12 ms');
  });

  it('is in the Service until the API server says that its gateway is not ready', async () => {
    const endpoint = (nodeName: string, ready?: boolean) => ({ nodeName, conditions: { ready } });
    const slices = {
      items: [
        { endpoints: [endpoint('node-b', true), endpoint('node-a', false)] },
        { endpoints: null },
        { endpoints: [endpoint('node-a')] },
      ],
    };
    const esb = { lab: { kubectl: () => Promise.resolve(JSON.stringify(slices)) } } as unknown as EsbCluster;
    expect(await servingNodes(esb)).toEqual(['node-a', 'node-b']);
  });
});
