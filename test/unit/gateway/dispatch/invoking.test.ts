import { describe, expect, it } from 'vitest';
import { type AgentAnswer, nothingSoFar } from '../../../../src/gateway/agents/agent-call.ts';
import type { AgentSession, WaitingCall } from '../../../../src/gateway/agents/agent-session.ts';
import type { InvokeResult } from '../../../../src/gateway/agents/function-call.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import type { RefusalReason } from '../../../../src/protocol/reasons.ts';
import { callOf, heldWorker, type InvokerLab, invokerLab, type Later, later } from '../../../support/invoker-lab.ts';
import { settle } from '../../../support/manual-clock.ts';
import { workerFixture } from '../../../support/worker-fixture.ts';

/** A call at an agent. */
interface Sent {
  readonly uid: string | undefined;
  readonly atOnce: boolean;
  readonly answer: (answer: AgentAnswer) => void;
}

const ANSWERED: AgentAnswer = {
  kind: 'Answered',
  head: { status: 200, contentType: '', streaming: false },
  body: Buffer.from('{}'),
  size: 2,
  streamed: false,
  trailer: {
    outcome: 'OUTCOME_ANSWERED',
    reason: '',
    message: '',
    stamp: '',
    timings: null,
    logTail: Buffer.alloc(0),
    reasonCode: 'REASON_UNSPECIFIED',
    functionEnd: null,
    initFault: null,
  },
};
const refused = (reason: RefusalReason): AgentAnswer => ({ kind: 'Refused', reason, message: 'no' });

interface SendingLab {
  readonly lab: InvokerLab;
  /** Calls that agents were sent, the first ones first. */
  readonly sent: Sent[];
  invoke(functionName: string, more?: { readonly qualifier?: string; readonly caller?: Caller }): Later<InvokeResult>;
}

function sendingLab(options: Parameters<typeof invokerLab>[0] = {}): SendingLab {
  const sent: Sent[] = [];
  const session: Pick<AgentSession, 'invoke' | 'isOpen' | 'recover' | 'run'> = {
    isOpen: true,
    run: '1',
    invoke: async ({ atOnce, worker }, caller, _limitMs, _sink, waits?: WaitingCall) => {
      const { promise, resolve } = Promise.withResolvers<AgentAnswer>();
      const { uid } = worker ?? {};
      sent.push({ uid, atOnce: atOnce === true, answer: resolve });
      caller.onGone = () => resolve({ kind: 'Unknown', reason: 'CallerGone', message: 'the caller hung up' });
      if (waits !== undefined) {
        waits.withdraw = () => resolve(refused('CallerGone'));
      }
      return await promise;
    },
    recover: async () => refused('Unavailable'),
  };
  const lab = invokerLab({ sessionOf: () => session as AgentSession, ...options });
  return {
    lab,
    sent,
    invoke: (functionName, { caller = new Caller(), qualifier } = {}) =>
      later(
        (async () => {
          const call = callOf(functionName, qualifier === undefined ? {} : { qualifier });
          const entered = await lab.invoker.enter(call, caller);
          try {
            return await lab.invoker.invoke(call, caller, entered);
          } finally {
            entered.release();
          }
        })(),
      ),
  };
}

describe('calls that seek a worker', () => {
  it('go to different workers where several are free', async () => {
    const { invoke, lab, sent } = sendingLab();
    const paused = { phase: 'PHASE_PAUSED' } as const;
    lab.put('f-0', { functionName: 'f', holding: paused });
    lab.put('f-1', { functionName: 'f', holding: paused });
    // The worker that was called last is the first choice of those at rest.
    invoke('f');
    await settle();
    sent[0]?.answer(ANSWERED);
    await settle();
    lab.view.removeHolding('node-1', 'uid-of-f-0');
    lab.view.removeHolding('node-1', 'uid-of-f-1');
    invoke('f');
    invoke('f');
    await settle();
    expect(sent).toHaveLength(1);
    lab.put('f-0', { functionName: 'f', holding: paused });
    lab.put('f-1', { functionName: 'f', holding: paused });
    await settle();
    expect(sent.slice(1).map(({ uid }) => uid)).toHaveLength(2);
    expect(new Set(sent.slice(1).map(({ uid }) => uid))).toEqual(new Set(['uid-of-f-0', 'uid-of-f-1']));
  });

  it('wait at the one worker that is back, but for the first of them', async () => {
    const { invoke, lab, sent } = sendingLab();
    lab.put('f-0', { functionName: 'f' });
    lab.put('f-1', { functionName: 'f' });
    invoke('f');
    invoke('f');
    await settle();
    lab.put('f-0', { functionName: 'f', holding: {} });
    await settle();
    expect(sent).toMatchObject([
      { uid: 'uid-of-f-0', atOnce: true },
      { uid: 'uid-of-f-0', atOnce: false },
    ]);
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7, 8])(
    'are not sent once their caller has hung up, %s turns after a change',
    async (turns) => {
      const { invoke, lab, sent } = sendingLab();
      lab.put('f-0', { functionName: 'f' });
      const caller = new Caller();
      const gone = invoke('f', { caller });
      await settle();
      lab.put('f-0', { functionName: 'f', holding: {} });
      for (let turn = 0; turn < turns; turn += 1) {
        await Promise.resolve();
      }
      const beforehand = sent.length;
      caller.hangUp();
      await settle();
      expect(sent).toHaveLength(beforehand);
      expect(beforehand === 1 || gone.error !== undefined).toBe(true);
    },
  );
});

describe('a call whose worker has moved while its agent was asked for the answer', () => {
  it('goes to that worker, although another one has no room', async () => {
    const { invoke, lab, sent } = sendingLab();
    lab.put('f-0', { functionName: 'f', holding: { phase: 'PHASE_PAUSED' } });
    lab.put('f-1', { functionName: 'f', holding: { phase: 'PHASE_ABSENT' } });
    const call = invoke('f');
    await settle();
    sent[0]?.answer(refused('NodeFull'));
    await settle();
    expect(sent.map(({ uid }) => uid)).toEqual(['uid-of-f-0', 'uid-of-f-1']);
    sent[1]?.answer({ kind: 'Unknown', reason: 'ConnectionLost', message: '', soFar: nothingSoFar() });
    await settle();
    lab.view.applyResource(
      workerFixture({
        name: 'f-1',
        spec: { functionName: 'f' },
        status: { assignment: { nodeName: 'node-2', epoch: 2 } },
      }),
    );
    lab.view.changeHolding('node-2', { ...heldWorker('f-1', 'f', {}), epoch: 2 });
    await settle();
    expect([sent.map(({ uid }) => uid), call.error]).toEqual([['uid-of-f-0', 'uid-of-f-1', 'uid-of-f-1'], undefined]);
  });
});

describe('the wait for a worker', () => {
  it('begins where there is none, and not with the change of a version', async () => {
    const { invoke, lab, sent } = sendingLab();
    lab.clock.flow(0.001, 0);
    lab.put('f-1-0', { functionName: 'f', version: 1, holding: {} });
    lab.put('f-2-0', { functionName: 'f', version: 2, holding: {} });
    lab.name('f', { live: 1 });
    const call = invoke('f', { qualifier: 'live' });
    await settle();
    lab.name('f', { live: 2 });
    sent[0]?.answer(refused('NotFound'));
    await settle();
    expect(sent.map(({ uid }) => uid)).toEqual(['uid-of-f-1-0', 'uid-of-f-2-0']);
    await lab.clock.advance(29_000);
    lab.view.removeHolding('node-1', 'uid-of-f-2-0');
    sent[1]?.answer(refused('NotFound'));
    await lab.clock.advance(29_000);
    expect(call).toEqual({ place: undefined, error: undefined });
    await lab.clock.advance(1_100);
    expect(call.error).toMatchObject({ status: 503 });
  });

  it('is over also where another call has the place by then', async () => {
    const { invoke, lab, sent } = sendingLab({ maxWaitMs: 1_000, mayGrow: () => true });
    lab.put('f-0', { functionName: 'f', holding: {} });
    const call = invoke('f');
    for (const _ of [0, 250, 500]) {
      await settle();
      sent.at(-1)?.answer(refused('Unavailable'));
      await lab.clock.advance(250);
    }
    expect(sent).toHaveLength(4);
    await lab.clock.advance(300);
    invoke('f');
    await settle();
    expect(sent).toHaveLength(4);
    sent.at(-1)?.answer(refused('Unavailable'));
    await settle();
    expect([call.error, sent.length]).toEqual([expect.objectContaining({ status: 503 }), 5]);
  });
});

describe('a call that waits at an agent', () => {
  it('leaves it at once for the worker that it was taken back from, if that has a free place by then', async () => {
    const { invoke, lab, sent } = sendingLab();
    const busy = { inFlight: 1, others: 1, othersPlaced: 1 };
    lab.put('f-0', { functionName: 'f' });
    invoke('f');
    await lab.clock.advance(10_000);
    lab.put('f-0', { functionName: 'f', holding: busy });
    lab.put('f-1', { functionName: 'f', holding: busy });
    await settle();
    const [first, second] = sent[0]?.uid === 'uid-of-f-0' ? ['f-0', 'f-1'] : ['f-1', 'f-0'];
    lab.put(first, { functionName: 'f', holding: {} });
    await lab.clock.advance(10_000);
    expect(sent.map(({ uid }) => uid)).toEqual([`uid-of-${first}`, `uid-of-${second}`, `uid-of-${first}`]);
  });
});

describe('a gateway that holds as many bytes as it may', () => {
  it('lets in no call that has waited for a place again', async () => {
    const { invoke, lab, sent } = sendingLab({ mayGrow: () => true });
    lab.put('f-0', { functionName: 'f', holding: {} });
    const call = invoke('f');
    await settle();
    sent[0]?.answer(refused('Unavailable'));
    invoke('f');
    await lab.clock.advance(250);
    lab.room.open().add(2 * lab.room.limits.maxBytes);
    sent[1]?.answer(ANSWERED);
    await settle();
    expect([sent.length, call.error]).toEqual([2, expect.objectContaining({ status: 429 })]);
  });
});
