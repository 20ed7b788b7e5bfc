import { describe, expect, it } from 'vitest';
import { type Call, type CallEnd, type Excuses, judge, type Witness } from '../../chaos/call-book.ts';

const call = (end: CallEnd): Call => ({
  id: 'call-1-1',
  step: 1,
  worker: 'chaos-01',
  gateway: 1,
  beganAt: 0,
  tookMs: 10,
  end,
});
const answered: CallEnd = { kind: 'answered', id: 'call-1-1', boot: 'a', counter: 1 };
const ran = (began: number, stalledMs = 0): Witness => ({
  executions: () => ({ began, ended: began, stalledMs }),
});
const none: Excuses = { mayMissOutput: () => false, mayStall: () => false };

describe('a call of a walk', () => {
  it.each<[string, CallEnd, number]>([
    ['was answered and ran once', answered, 1],
    ['was refused and did not run', { kind: 'refused', status: 429, why: '' }, 0],
    ['is unknown and ran once', { kind: 'unknown', why: 'the agent was lost' }, 1],
    ['is unknown and did not run', { kind: 'unknown', why: 'the agent was lost' }, 0],
    ['was lost with its gateway and ran once', { kind: 'lost', why: '' }, 1],
    ['failed by its timeout', { kind: 'failed', type: 'Sandbox.Timedout' }, 1],
  ])('is right when it %s', (_what, end, began) => {
    expect(judge(call(end), ran(began), none)).toEqual([]);
  });

  it.each<[string, CallEnd, number]>([
    ['ran twice, though it was answered', answered, 2],
    ['ran twice, though it is unknown', { kind: 'unknown', why: 'the agent was lost' }, 2],
    ['ran twice, though it was lost', { kind: 'lost', why: '' }, 2],
    ['ran, though it was refused', { kind: 'refused', status: 503, why: '' }, 1],
    ['was answered, and nobody ran it', answered, 0],
    ['got the answer of another', { ...answered, id: 'call-9-9' }, 1],
    ['was never answered', { kind: 'hung' }, 0],
    ['failed as its function cannot fail', { kind: 'failed', type: 'ValueError' }, 1],
    ['got an answer that makes no sense', { kind: 'nonsense', what: '200' }, 1],
  ])('is wrong when it %s', (_what, end, began) => {
    expect(judge(call(end), ran(began), none)).toHaveLength(1);
  });

  it('is wrong when its worker stood still in the middle of it, unless that was done on purpose', () => {
    expect(judge(call(answered), ran(1, 10_000), none)).toHaveLength(1);
    expect(judge(call(answered), ran(1, 10_000), { ...none, mayStall: () => true })).toEqual([]);
    expect(judge(call(answered), ran(0), { ...none, mayMissOutput: () => true })).toEqual([]);
  });
});
