import { describe, expect, it } from 'vitest';
import { capacityOf, gatewayOf, planSegments, segmentAt } from '../../../../src/cni/host/network-plan.ts';
import { formatRange, parseIpRange } from '../../../../src/common/net/ip-range.ts';

function plan(maxWorkers: number, ...subnets: string[]): string[] {
  return planSegments({
    bridge: 'esb0',
    network: 'esb',
    subnets: subnets.map(parseIpRange),
    maxWorkers,
  }).map(({ bridge, network, ranges }) => `${bridge} ${network} ${ranges.map(formatRange).join(' ')}`);
}

describe('the bridges of a node', () => {
  it('are one for up to a thousand workers, and one more for each further thousand', () => {
    expect(plan(1, '10.234.0.0/16')).toEqual(['esb0 esb 10.234.0.0/21']);
    expect(plan(1000, '10.234.0.0/16')).toHaveLength(1);
    expect(plan(1001, '10.234.0.0/16')).toEqual(['esb0 esb 10.234.0.0/21', 'esb1 esb.1 10.234.8.0/21']);
    expect(plan(5000, '10.234.0.0/16').at(-1)).toBe('esb4 esb.4 10.234.32.0/21');
  });

  it('keep their addresses when more are asked for', () => {
    const more = plan(32_000, '10.234.0.0/16', 'fd00:234::/64');
    expect(more).toHaveLength(32);
    expect(new Set(more).size).toBe(32);
    expect(more.slice(0, 2)).toEqual(plan(2000, '10.234.0.0/16', 'fd00:234::/64'));
    expect(more[1]).toBe('esb1 esb.1 10.234.8.0/21 fd00:234::1:0/112');
  });

  it('share a subnet that has enough for each, and the way out is told where it has not', () => {
    expect(plan(1000, '10.234.0.0/29')).toEqual(['esb0 esb 10.234.0.0/29']);
    expect(() => plan(1001, '10.234.0.0/21')).toThrow(
      /10\.234\.0\.0\/21 is too small for 1001 workers.*2 bridges.*subnet of \/20 or larger.*--max-workers 1000/,
    );
    expect(() => plan(33_000, '10.234.0.0/16')).toThrow(/\/15 or larger/);
    expect(() => plan(2000, '10.234.0.0/16', 'fd00::/112')).toThrow(/fd00::\/112.*\/111 or larger/);
  });

  it('hold as many as they have ports and addresses for', () => {
    const capacity = (subnet: string): number =>
      capacityOf(segmentAt({ bridge: 'esb0', network: 'esb', subnets: [parseIpRange(subnet)] }, 0));
    expect(capacity('10.234.0.0/16')).toBe(1023);
    expect(capacity('10.234.0.0/22')).toBe(1021);
    expect(capacity('10.234.0.0/29')).toBe(5);
    expect(capacity('10.234.0.0/31')).toBe(0);
    expect(capacity('fd00::/64')).toBe(1023);
  });

  it('have names of their own, whatever the first one is called', () => {
    const name = (bridge: string, index: number): string =>
      segmentAt({ bridge, network: 'esb', subnets: [] }, index).bridge;
    expect(name('esb0', 12)).toBe('esb12');
    expect(name('esb1', 1)).toBe('esb2');
    expect(name('workers', 1)).toBe('workers1');
    expect(name('a-name-so-long0', 10)).toBe('a-name-so-lon10');
  });

  it('give the node the first address of each range', () => {
    expect(gatewayOf(parseIpRange('10.234.8.0/21'))).toBe('10.234.8.1');
    expect(gatewayOf(parseIpRange('fd00:234::1:0/112'))).toBe('fd00:234::1:1');
  });
});
