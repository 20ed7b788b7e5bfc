import fc from 'fast-check';
import { expect, it } from 'vitest';
import { loadAgentProtocol } from '../../../../src/gateway/agents/agent-protocol.ts';
import { loadAgentProto } from '../../../../src/protocol/agent-proto.ts';

const protocol = loadAgentProtocol();
const { InvokeMany } = loadAgentProto().agent;

/** The stamp as it is taken from an agent. */
function taken(stamp: string): string | undefined {
  const answer = { trailer: { outcome: 'OUTCOME_ANSWERED', stamp } } as const;
  return protocol.decodeInvokeMany(InvokeMany.responseSerialize({ call: 1, answer })).answer?.trailer?.stamp;
}

it.each(['2026-11-29T23:59:59Z', '2026-02-28T00:00:00.123456Z', '2028-02-29T00:00:00Z', '2026-12-31T00:00:00.1Z'])(
  'takes the stamp %s',
  (stamp) => {
    expect(taken(stamp)).toBe(stamp);
  },
);

it.each([
  '2026-02-29T00:00:00Z',
  '2026-04-31T00:00:00Z',
  '2026-01-00T00:00:00Z',
  '2026-01-32T00:00:00Z',
  '2026-13-01T00:00:00Z',
  '2026-00-01T00:00:00Z',
  '2026-01-01T24:00:00Z',
  '2026-01-01T00:60:00Z',
  '2026-01-01T00:00:60Z',
  '2026-01-01T00:00:00',
  '2026-01-01T00:00:00.1234567890Z',
])('leaves out the stamp %s, which the API server would refuse', (stamp) => {
  expect(taken(stamp)).toBe('');
});

it('takes the stamps of times, and no others of that form', () => {
  const two = fc.integer({ min: 0, max: 99 }).map((value) => String(value).padStart(2, '0'));
  fc.assert(
    fc.property(
      fc.integer({ min: 1970, max: 2099 }),
      two,
      two,
      two,
      two,
      two,
      (year, month, day, hour, minute, second) => {
        const stamp = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
        const time = new Date(stamp);
        const isTime = !Number.isNaN(time.getTime()) && time.toISOString() === stamp.replace('Z', '.000Z');
        expect(taken(stamp)).toBe(isTime ? stamp : '');
      },
    ),
    { numRuns: 2_000 },
  );
});
