import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type BareInit, type Peer, startBareInit } from '../../support/init-bare.ts';
import { strictInitProgram } from '../../support/init-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

/** An init that breaches end, ended with the test, in which the checks of memory have to have found nothing. */
async function start(flags: readonly string[] = []): Promise<BareInit> {
  const init = await startBareInit({ program: [await strictInitProgram()], flags });
  onTestFinished(async () => expect(await init.close()).toBe(''));
  return init;
}

/** A connection that waits for a call. */
async function waiting(init: BareInit, manner?: 'heedless'): Promise<Peer> {
  const peer = await init.connect(manner);
  peer.next();
  await init.agent.idle();
  return peer;
}

/** A connection on which a runtime has a call. */
async function called(init: BareInit, manner?: 'heedless'): Promise<{ readonly peer: Peer; readonly id: string }> {
  const peer = await waiting(init, manner);
  // Longer than any flood needs, however slow the machine is: an end by the call's timeout breaks no bound.
  const id = init.agent.send({}, { timeoutMs: 60_000 });
  await peer.answer();
  return { peer, id };
}

/** Waits until the worker is ended, and says for which bound. */
async function bound(init: BareInit): Promise<string | undefined> {
  const fault = await init.agent.until('the fault', () => init.agent.phase?.fault);
  expect(fault.message).toBe(`the worker broke a bound of the Runtime API: ${fault.bound}`);
  await init.ended();
  return fault.bound;
}

async function isServed(init: BareInit): Promise<void> {
  const peer = await init.connect();
  peer.send('GET /nothing HTTP/1.1\r\n\r\n');
  expect((await peer.answer()).status).toBe(404);
}

const answerOf = (id: string, mode: string): string =>
  `POST /2018-06-01/runtime/invocation/${id}/response HTTP/1.1\r\nHost: x\r\n` +
  `Lambda-Runtime-Function-Response-Mode: ${mode}\r\nTransfer-Encoding: chunked\r\n\r\n`;

/** Sends for as long as the connection takes it. */
async function endlessly({ socket }: Peer, piece: string): Promise<void> {
  while (socket.writable) {
    if (!socket.write(piece)) {
      const over = new AbortController();
      const next = ['drain', 'close'].map((event) => once(socket, event, over));
      await Promise.race(next).catch(() => undefined);
      over.abort();
    }
  }
}

describe('a worker is ended', () => {
  it('by connections without end', async () => {
    const init = await start();
    await waiting(init);
    for (let count = 0; count < 200 && init.agent.phase?.fault === undefined; count += 1) {
      await init.connect().catch(() => undefined);
    }
    expect(await bound(init)).toBe('60 connections');
  });

  it('by headers that drip', async () => {
    const init = await start();
    await waiting(init);
    const peers = await Promise.all([1, 2, 3].map(() => init.connect()));
    for (let round = 0; round < 100 && init.agent.phase?.fault === undefined; round += 1) {
      for (const peer of peers) {
        peer.send('G');
      }
      // The pace of the calls.
      await delay(100);
    }
    expect(await bound(init)).toBe('10 seconds for the header of a request');
  });

  it('by a body that drips', async () => {
    const init = await start();
    await waiting(init);
    const peer = await init.connect();
    peer.send('POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 1000\r\n\r\n');
    for (let round = 0; round < 50 && init.agent.phase?.fault === undefined; round += 1) {
      peer.send('x');
      // The pace of the calls.
      await delay(100);
    }
    expect(await bound(init)).toBe('60 seconds for the body of a request');
  });

  it('by an answer in single bytes without end', async () => {
    const init = await start();
    const { peer, id } = await called(init);
    peer.send(answerOf(id, 'streaming'));
    await endlessly(peer, '1\r\nx\r\n'.repeat(1_000));
    expect(await bound(init)).toBe('10,000 pieces below 16 bytes in a second, 1,000,000 at once');
    expect(init.agent.known(id).facts.outcome).toMatchObject({ kind: 'Exited' });
  });

  it('by chunks that are hardly more than their lines', async () => {
    const init = await start();
    const { peer, id } = await called(init);
    peer.send(answerOf(id, 'streaming'));
    await endlessly(peer, `1;${'\0'.repeat(1_000)}\r\nx\r\n`);
    expect(await bound(init)).toBe('lines of chunks in proportion to their data');
  });

  it.each(['buffered', 'streaming'])(
    'by an answer (%s) that is too large, and goes on after that was told',
    async (mode) => {
      const init = await start();
      const { peer, id } = await called(init, 'heedless');
      peer.send(answerOf(id, mode));
      await endlessly(peer, `10000\r\n${'x'.repeat(65_536)}\r\n`);
      expect(await bound(init)).toBe('an end to a body that is too large, within 2 seconds and 200 MiB');
      expect(init.agent.known(id).facts.outcome).toMatchObject({ kind: 'TooLarge' });
    },
  );
});

describe('a worker goes on', () => {
  it('after an answer that is too large, and ends', async () => {
    const init = await start();
    const { peer, id } = await called(init);
    peer.send(answerOf(id, 'buffered'));
    peer.send(`1400000\r\n${'x'.repeat(20 * 1024 * 1024)}\r\n0\r\n\r\n`);
    expect((await peer.answer()).status).toBe(413);
    expect((await init.agent.ended(id)).facts.outcome).toMatchObject({ kind: 'TooLarge' });
    // The time is what is tested.
    await delay(2_500);
    await isServed(init);
  });

  it('where a client wants more connections than there may be, which are closed', async () => {
    const init = await start();
    const peers: Peer[] = [];
    for (let count = 0; count < 100; count += 1) {
      peers.push(await init.connect());
    }
    await waitFor('the end of 40', () => peers.filter(({ ended }) => ended).length === 40);
    peers[0]?.socket.destroy();
    await waitFor('a place', async () => {
      const peer = await init.connect();
      peer.send('GET /nothing HTTP/1.1\r\n\r\n');
      return await peer.answer(500).then(
        ({ status }) => status === 404,
        () => false,
      );
    });
    expect(init.agent.phase?.fault).toBeUndefined();
  });

  it('with a stream of single letters', async () => {
    const init = await start();
    const { peer, id } = await called(init);
    peer.stream(id, ...Array.from({ length: 15_000 }, () => 'x'));
    peer.send('0\r\n\r\n');
    const { facts, answer } = await init.agent.ended(id);
    expect(facts.outcome).toEqual({ kind: 'Answered' });
    expect(answer).toHaveLength(15_000);
  });

  it('with single letters where it takes as many calls at once as a resource may ask for', async () => {
    const init = await start(['--concurrency', '1600']);
    const { peer, id } = await called(init);
    peer.stream(id, 'x', 'y');
    peer.send('0\r\n\r\n');
    const { facts, answer } = await init.agent.ended(id);
    expect(facts.outcome).toEqual({ kind: 'Answered' });
    expect(answer.toString()).toBe('xy');
  });

  it('where both it and a header stood still, as they do in a freezer', async () => {
    const init = await start();
    await waiting(init);
    const peers = await Promise.all([1, 2, 3].map(() => init.connect()));
    for (const peer of peers) {
      peer.send('GET /nothing HTTP/1.1\r\nX-');
    }
    // No word tells when the other side has come so far.
    await delay(100);
    init.stand(true);
    // The time is what is tested.
    await delay(4_000);
    init.stand(false);
    // No word tells when the other side has come so far.
    await delay(200);
    for (const peer of peers) {
      peer.send('A: b\r\n\r\n');
      expect((await peer.answer()).status).toBe(404);
    }
  });

  it('with an empty line after a request, for as long as it likes', async () => {
    const init = await start();
    const peer = await init.connect();
    for (let round = 0; round < 2; round += 1) {
      peer.send('GET /nothing HTTP/1.1\r\n\r\n\r\n');
      expect((await peer.answer()).status).toBe(404);
      // The time is what is tested.
      await delay(2_500);
    }
    expect(peer.ended).toBe(false);
    peer.send('\r\n\r\n');
    await waitFor('the end of the connection', () => peer.ended, { everyMs: 5 });
    await isServed(init);
  });
});

describe('an answer that a runtime wrote before it ended', () => {
  it('is passed on as far as it came, though the init hears of the end first', async () => {
    const argv = ['sh', '-c', 'until [ -e "$FOLDER/end" ]; do sleep 0.01; done; exit 3'];
    const init = await startBareInit({ program: [await strictInitProgram()], argv });
    onTestFinished(async () => expect(await init.close()).toBe(''));
    const { id } = await called(init);
    init.stand(true);
    await writeFile(join(init.folder, 'end'), '');
    // No word tells when the other side has come so far.
    await delay(100);
    const peer = await init.connect();
    peer.stream(id, 'half');
    // No word tells when the other side has come so far.
    await delay(100);
    init.stand(false);
    const { facts, answer } = await init.agent.ended(id);
    expect(facts.outcome).toMatchObject({ kind: 'Exited' });
    expect(answer.toString()).toBe('half');
  });
});

describe('a request for the next call that the init reads before the answer', () => {
  it.each([
    ['that broke off tells that', false, { kind: 'Interrupted', errorType: 'Runtime.TruncatedResponse' }],
    ['that is whole waits for it', true, { kind: 'Answered' }],
  ])('%s', async (_, whole, outcome) => {
    const init = await start();
    const { peer, id } = await called(init);
    init.stand(true);
    // The connection that waited was heard first.
    peer.send('GET /2018-06-01/');
    const answers = await init.connect();
    answers.send(answerOf(id, 'buffered') + (whole ? '1\r\n1\r\n0\r\n\r\n' : '1\r\n1\r\n'));
    // No word tells when the other side has come so far.
    await delay(50);
    answers.socket.end();
    peer.send('runtime/invocation/next HTTP/1.1\r\n\r\n');
    // No word tells when the other side has come so far.
    await delay(50);
    init.stand(false);
    expect((await init.agent.ended(id)).facts.outcome).toEqual(expect.objectContaining(outcome));
    await init.agent.idle();
    expect(init.agent.phase?.restarts).toBe(0);
    init.agent.send({});
    expect((await peer.answer()).status).toBe(200);
  });
});
