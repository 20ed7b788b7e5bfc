import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { waitFor } from '../support/wait-for.ts';
import { auditEvents } from './support/audit-events.ts';
import { instance } from './support/instance.ts';
import { Parts } from './support/parts.ts';

describe('two gateways', () => {
  const esb = instance();
  const parts = new Parts(esb);

  it('split 50 callers of one worker between them, and the handler never runs twice at once', async () => {
    await esb.apply('both', { desiredState: 'Paused', timeoutSeconds: 30 });
    await esb.ready('both');
    const clients = (await parts.gateways()).map((url) => esb.lambda(url));
    expect(clients).toHaveLength(2);
    const answers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => {
        const client = clients[index % clients.length];
        return esb.invoke('both', { sleep: 0.02, echo: index }, client === undefined ? {} : { client });
      }),
    );
    expect(answers.map(({ payload }) => payload.echo)).toEqual(Array.from({ length: 50 }, (_, index) => index));
    expect(answers.map(({ payload }) => payload.overlaps)).toEqual(Array.from({ length: 50 }, () => 0));
    const counters = answers.map(({ payload }) => payload.counter).toSorted((a, b) => a - b);
    expect(counters).toEqual(Array.from({ length: 50 }, (_, index) => index + 1));
  });
});

describe('two controllers', () => {
  const esb = instance();
  const parts = new Parts(esb);

  it('the leader frozen until it is succeeded writes nothing more, and nothing is assigned twice', async () => {
    const leader = await parts.leader();
    await esb.apply('before-freeze');
    await esb.ready('before-freeze');
    const names = [1, 2, 3].map((index) => `succession-${index}`);
    let succession: string;
    {
      await using _frozen = await parts.freeze(leader);
      for (const name of names) {
        await esb.apply(name);
      }
      await waitFor('another leader', async () => (await parts.leader()) !== leader, { timeoutMs: 60_000 });
      succession = new Date().toISOString();
      for (const name of names) {
        await esb.ready(name);
      }
    }
    for (const name of ['after-1', 'after-2']) {
      await esb.apply(name);
      await esb.ready(name);
    }
    // Nothing may happen meanwhile.
    await delay(5_000);
    expect(await parts.leader()).not.toBe(leader);
    const events = await auditEvents(esb);
    const requests = events.filter(
      ({ verb, user, requestReceivedTimestamp }) =>
        ['create', 'update', 'patch', 'delete'].includes(verb) &&
        user.username === 'esb:controller' &&
        requestReceivedTimestamp > succession,
    );
    const ofLeader = (userAgent: string | undefined): boolean => userAgent?.split('/')[1]?.includes(leader) === true;
    // A controller learns by a refusal that the Lease is another's: a request, and not a write.
    const writes = requests.filter(({ responseStatus }) => (responseStatus?.code ?? 200) < 400);
    const byOldLeader = writes.filter(({ userAgent }) => ofLeader(userAgent));
    const byNewLeader = writes.filter(({ userAgent }) => !ofLeader(userAgent));
    // The label that tells the two apart shows this: the old one is there, from before.
    expect(events.some(({ userAgent }) => ofLeader(userAgent))).toBe(true);
    expect(byNewLeader.length).toBeGreaterThan(0);
    expect(byOldLeader.map(({ verb, requestURI }) => `${verb} ${requestURI}`)).toEqual([]);
    for (const name of [...names, 'after-1', 'after-2']) {
      expect((await esb.worker(name)).status?.assignment?.epoch).toBe(1);
    }
  });
});
