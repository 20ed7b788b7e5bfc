import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type BareInit, type Peer, startBareInit } from '../../support/init-bare.ts';

/** Milliseconds of each patience of the init in these tests, and those for which it stands still. */
const patienceMs = 2_000;
const frozenMs = 3_000;

async function start(...flags: readonly string[]): Promise<BareInit> {
  const init = await startBareInit({ flags });
  onTestFinished(async () => expect(await init.close()).toBe(''));
  return init;
}

/** A connection on which a runtime has a call. */
async function called(init: BareInit): Promise<{ readonly peer: Peer; readonly id: string }> {
  const peer = await init.connect();
  peer.next();
  await init.agent.idle();
  const id = init.agent.send({}, { timeoutMs: patienceMs });
  await peer.answer();
  return { peer, id };
}

/** Has the init stand still for longer than it has patience. */
async function freeze(init: BareInit): Promise<void> {
  init.stand(true);
  // The time is what is tested.
  await delay(frozenMs);
  init.stand(false);
}

describe('time in which a worker is frozen', () => {
  it('does not count for its start', async () => {
    const init = await start('--init-timeout-ms', String(patienceMs));
    await freeze(init);
    (await init.connect()).next();
    expect(await init.agent.idle()).toMatchObject({ phase: 'Ready', restarts: 0 });
  });

  it('does not count for a runtime that works on after its call', async () => {
    const init = await start();
    const { peer, id } = await called(init);
    peer.respond(id, '1');
    await init.agent.ended(id);
    await peer.answer();
    await freeze(init);
    peer.next();
    expect(await init.agent.idle()).toMatchObject({ phase: 'Ready', restarts: 0 });
  });

  it('does not count for an answer that is kept for the next agent', async () => {
    const init = await start('--keep-answers-ms', String(patienceMs));
    const { peer, id } = await called(init);
    await init.agent.die();
    peer.respond(id, '1');
    expect((await peer.answer()).status).toBe(202);
    await freeze(init);
    await init.agent.listen();
    const { answer, facts } = await init.agent.ended(id);
    expect(facts.outcome).toEqual({ kind: 'Answered' });
    expect(answer.toString()).toBe('1');
  });

  it('counts for the time that a caller was promised', async () => {
    const init = await start();
    const { id } = await called(init);
    await freeze(init);
    expect((await init.agent.ended(id)).facts.outcome).toMatchObject({ kind: 'Timeout' });
  });
});
