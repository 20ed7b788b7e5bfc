import { expect, it } from 'vitest';
import { rowOf } from '../../../src/cli/ps.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

it('a worker that is not Ready says why', () => {
  const worker = workerFixture({
    name: 'late',
    status: {
      phase: 'Pulling',
      assignment: { nodeName: 'node-1', epoch: 1 },
      lastInvocationTime: '2026-11-01T00:00:00.000000Z',
      conditions: [
        {
          type: 'Ready',
          status: 'False',
          reason: 'ImageNotFound',
          message: 'no such image',
          lastTransitionTime: '2026-11-01T00:00:00Z',
        },
      ],
    },
  });
  const row = rowOf(worker, Date.parse('2026-11-01T00:00:30Z'));
  expect(row).toEqual([
    'default',
    'late',
    'late',
    'Pulling',
    'node-1',
    '-',
    '-',
    '30 s ago',
    'ImageNotFound: no such image',
  ]);
});

it.each([
  ['UpToDate', 'False', 'Replacing', 'the earlier container serves'],
  ['LimitsReached', 'True', 'OutOfMemory', 'ended for want of memory'],
] as const)('tells in WHY of a worker that is ready and whose %s is %s', (type, status, reason, message) => {
  const at = '2026-11-01T00:00:00Z';
  const worker = workerFixture({
    status: {
      phase: 'Running',
      conditions: [
        { type: 'Ready', status: 'True', reason: 'Running', message: '', lastTransitionTime: at },
        { type, status, reason, message, lastTransitionTime: at },
      ],
    },
  });
  expect(rowOf(worker, Date.parse(at)).at(-1)).toBe(`${reason}: ${message}`);
});

it('shows that a message in WHY is longer than the column', () => {
  const at = '2026-11-01T00:00:00Z';
  const message = 'x'.repeat(1_000);
  const worker = workerFixture({
    status: {
      phase: 'Failed',
      conditions: [{ type: 'Ready', status: 'False', reason: 'StartFailed', message, lastTransitionTime: at }],
    },
  });
  const why = rowOf(worker, Date.parse(at)).at(-1);
  expect(why).toMatch(/^StartFailed: x+…$/);
  expect(why?.length).toBe(320);
});

it.each([
  [{ ip: 'fd00::7', port: 8080 }, '[fd00::7]:8080'],
  [{ ip: '10.234.0.7' }, '10.234.0.7'],
])('shows the address %j', (address, shown) => {
  expect(rowOf(workerFixture({ name: 'x', status: { address } }), 0)).toContain(shown);
});
