import { connect, createServer, type Socket } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { EsbError } from '../../../../src/common/errors.ts';
import { loadAgentProtocol } from '../../../../src/gateway/agents/agent-protocol.ts';
import { AgentSession } from '../../../../src/gateway/agents/agent-session.ts';
import { Caller } from '../../../../src/gateway/lambda/caller.ts';
import { createCertificateAuthority } from '../../../support/certificate-authority.ts';
import { type FakeAgent, type FakeCall, startFakeAgent } from '../../../support/fake-agent.ts';
import { manualClock, settle } from '../../../support/manual-clock.ts';
import { waitFor } from '../../../support/wait-for.ts';

const protocol = loadAgentProtocol();

const request = {
  worker: { namespace: 'default', name: 'hello', uid: 'uid-of-hello' },
  epoch: 1,
  requestId: 'id-1',
  payload: Buffer.from('{}'),
  clientContext: '',
  tailLog: false,
  traceId: '',
  traceParent: '',
};

/** A way to a port that can be frozen: connections stay and nothing gets through. */
async function freezableWay(port: number) {
  const sockets = new Set<Socket>();
  const server = createServer((near) => {
    const far = connect(port, '127.0.0.1');
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
    }
    near.pipe(far).pipe(near);
  });
  const listening = Promise.withResolvers<void>();
  server.listen(0, '127.0.0.1', () => listening.resolve());
  await listening.promise;
  onTestFinished(() => {
    server.close();
    for (const socket of sockets) {
      socket.destroy();
    }
  });
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : 0,
    freeze() {
      for (const socket of sockets) {
        socket.unpipe();
        socket.pause();
      }
    },
  };
}

async function lab(options: { readonly through?: (agent: FakeAgent) => Promise<number> } = {}) {
  const authority = await createCertificateAuthority();
  const agent = await startFakeAgent({ clientAuthority: authority.certificate });
  onTestFinished(() => agent.stop());
  const issued = await authority.issueGateway(['default']);
  const clock = manualClock();
  const port = (await options.through?.(agent)) ?? agent.port;
  let retired: EsbError | undefined;
  const session = new AgentSession({
    endpoint: { host: '127.0.0.1', port },
    trusted: agent.certificate,
    identity: { certificate: issued.certificate, privateKey: issued.key },
    protocol,
    caller: 'gateway',
    clock,
    onWatch: () => undefined,
    onRetired: (reason) => {
      retired = reason;
    },
  });
  onTestFinished(() => session.destroy());
  return { agent, clock, session, authority, retired: () => retired };
}

describe('a session', () => {
  it('with an agent that is frozen ends after three pings, and its calls are unknown', async () => {
    let freeze = (): void => undefined;
    const { agent, clock, session, retired } = await lab({
      through: async (each) => {
        const way = await freezableWay(each.port);
        freeze = () => way.freeze();
        return way.port;
      },
    });
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    agent.onInvoke(() => undefined);
    const given = session.invoke(request, new Caller(), 900_000);
    await waitFor('the call', () => agent.calls.length === 1, { everyMs: 5 });
    freeze();
    await clock.advance(10_000);
    expect(session.isOpen).toBe(true);
    await clock.advance(10_000);
    expect(await given).toMatchObject({
      kind: 'Unknown',
      reason: 'ConnectionLost',
      message: expect.stringContaining('no ping'),
    });
    expect(retired()).toMatchObject({ code: 'ConnectionLost' });
  });

  it('with an agent that is at work lasts', async () => {
    const { clock, session, agent } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    agent.onInvoke(() => undefined);
    const given = session.invoke(request, new Caller(), 60_000);
    await waitFor('the call', () => agent.calls.length === 1, { everyMs: 5 });
    for (let tick = 0; tick < 14; tick += 1) {
      await clock.advance(5_000);
      await waitFor('the ping', () => session.unansweredPings === 0, { everyMs: 1 });
    }
    expect(session.isOpen).toBe(true);
    // A call that is silent long after its time is not waited for any more.
    expect(await given).toMatchObject({ kind: 'Unknown', reason: 'ConnectionLost' });
  });

  it('with an agent that never answers is given up after ten seconds', async () => {
    const silent = createServer((socket) => socket.on('error', () => undefined));
    const listening = Promise.withResolvers<void>();
    silent.listen(0, '127.0.0.1', () => listening.resolve());
    await listening.promise;
    onTestFinished(() => {
      silent.close();
    });
    const address = silent.address();
    const { clock, retired } = await lab({
      through: async () => (typeof address === 'object' && address !== null ? address.port : 0),
    });
    await settle();
    await clock.advance(10_000);
    await waitFor('the end', () => retired() !== undefined, { everyMs: 5 });
    expect(retired()).toMatchObject({ code: 'DeadlineExceeded' });
  });

  it('is refused by an agent that does not know the authority of its certificate', async () => {
    const other = await lab();
    const stranger = await createCertificateAuthority();
    const issued = await stranger.issueGateway(['default']);
    const retired = Promise.withResolvers<EsbError>();
    new AgentSession({
      endpoint: { host: '127.0.0.1', port: other.agent.port },
      trusted: other.agent.certificate,
      identity: { certificate: issued.certificate, privateKey: issued.key },
      protocol,
      caller: 'gateway',
      clock: manualClock(),
      onWatch: () => undefined,
      onRetired: retired.resolve,
    });
    expect(await retired.promise).toMatchObject({ code: 'ClientRefused' });
  });

  it('that is over refuses calls without having sent anything', async () => {
    const { agent, session } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    session.destroy();
    expect(await session.invoke(request, new Caller(), 1_000)).toMatchObject({
      kind: 'Refused',
      reason: 'ConnectionLost',
    });
    expect(agent.calls).toHaveLength(0);
  });

  it('that is retired lets its calls end first', async () => {
    const { agent, session, retired } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    const running = Promise.withResolvers<() => void>();
    agent.onInvoke((call) => running.resolve(() => call.answer('"x"')));
    const given = session.invoke(request, new Caller(), 60_000);
    const finish = await running.promise;
    session.retire();
    expect(session.isOpen).toBe(false);
    expect(retired()).toBeDefined();
    finish();
    expect(await given).toMatchObject({ kind: 'Answered', size: 3 });
    await waitFor('the connection to end', () => agent.watchers() === 0);
  });

  it('shares one stream among small calls, and gives a large one its own', { tags: ['G8'] }, async () => {
    const { agent, session } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    agent.onInvoke((call) => call.answer(call.request.requestId));
    const bodies = await Promise.all(
      ['a', 'b', 'c', 'd'].map(async (requestId) => {
        const payload = requestId === 'd' ? Buffer.alloc(100_000) : Buffer.from('{}');
        const answer = await session.invoke({ ...request, requestId, payload }, new Caller(), 60_000);
        return answer.kind === 'Answered' ? answer.body.toString() : answer.kind;
      }),
    );
    expect(bodies).toEqual(['a', 'b', 'c', 'd']);
    expect(agent.alone()).toBe(1);
  });

  it('may begin again elsewhere what an agent left unanswered at an orderly end', {
    tags: ['G1'],
  }, async () => {
    const { agent, session } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    agent.onInvoke(() => undefined);
    const given = session.invoke(request, new Caller(), 60_000);
    await waitFor('the call', () => agent.calls.length === 1, { everyMs: 5 });
    agent.endShared();
    expect(await given).toMatchObject({ kind: 'Refused', reason: 'ConnectionLost' });
    // Later calls have streams of their own.
    agent.onInvoke((call) => call.answer('"x"'));
    expect(await session.invoke(request, new Caller(), 60_000)).toMatchObject({ kind: 'Answered' });
    expect(agent.alone()).toBe(1);
  });

  it.each([
    ['small', '{}'],
    ['large', `"${'x'.repeat(100_000)}"`],
  ])('does not know what became of a %s call when the agent dies under it', async (_size, payload) => {
    const { agent, session } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    agent.onInvoke(() => undefined);
    const given = session.invoke({ ...request, payload: Buffer.from(payload) }, new Caller(), 60_000);
    await waitFor('the call', () => agent.calls.length === 1, { everyMs: 5 });
    await agent.kill();
    expect(await given).toMatchObject({ kind: 'Unknown', reason: 'ConnectionLost' });
  });

  it.each([
    ['small', '{}'],
    ['large', `"${'x'.repeat(100_000)}"`],
  ])('tells the agent of a %s call whose caller hung up, and goes on', async (_size, payload) => {
    const { agent, session } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    const taken = Promise.withResolvers<FakeCall>();
    agent.onInvoke(taken.resolve);
    const caller = new Caller();
    const given = session.invoke({ ...request, payload: Buffer.from(payload) }, caller, 60_000);
    const { cancelled } = await taken.promise;
    caller.hangUp();
    expect(await given).toMatchObject({ kind: 'Unknown', reason: 'CallerGone' });
    await cancelled;
    agent.onInvoke((call) => call.answer('"next"'));
    expect(await session.invoke(request, new Caller(), 60_000)).toMatchObject({ kind: 'Answered' });
  });

  it.each([
    ['Fenced', 'Refused'],
    ['ResponseTooSlow', 'Unknown'],
  ])('takes the failure %s of one of many calls for %s', async (code, kind) => {
    const { agent, session } = await lab();
    await waitFor('the session', () => session.isOpen, { everyMs: 5 });
    agent.onInvoke((call) => call.fail(9, code, 'so it is'));
    expect(await session.invoke(request, new Caller(), 60_000)).toMatchObject({
      kind,
      reason: code,
      message: 'so it is',
    });
  });
});
