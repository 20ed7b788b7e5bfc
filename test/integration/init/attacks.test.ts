import { closeSync, constants, existsSync, openSync, readSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { run } from '../../support/command.ts';
import { type BareInit, type BareInitOptions, type Peer, startBareInit } from '../../support/init-bare.ts';
import { initProgram, strictInitProgram } from '../../support/init-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const several = { flags: ['--concurrency', '2'] };
const large = { filler: 'y'.repeat(6 * 1024 * 1024 - 100) };
const asleep = '#!/bin/sh\nexec sleep 1000\n';

/** An init, ended with the test, in which the checks of memory have to have found nothing. */
async function start(options: BareInitOptions = {}): Promise<BareInit> {
  const init = await startBareInit(options);
  onTestFinished(async () => expect(await init.close()).toBe(''));
  return init;
}

/** A connection that waits for a call. */
async function waiting(init: BareInit): Promise<Peer> {
  const peer = await init.connect();
  peer.next();
  await init.agent.idle();
  return peer;
}

/** An init with one extension that has registered, and has not asked for an event yet. */
async function withExtension(
  events: readonly string[],
  options: BareInitOptions = {},
): Promise<{ init: BareInit; peer: Peer; identity: Record<string, string> }> {
  const init = await start({ extensions: { outer: asleep }, ...options });
  const peer = await init.connect();
  const identity = { 'Lambda-Extension-Identifier': await peer.register('outer', events) };
  return { init, peer, identity };
}

/** A runtime that does something at SIGTERM. */
const trapping = (what: string): readonly string[] => [
  'sh',
  '-c',
  `trap '${what}' TERM; echo trapped; while :; do sleep 0.05; done`,
];

const trapped = (init: BareInit): Promise<unknown> =>
  waitFor('the trap', () => init.log().includes('trapped'), { everyMs: 5 });

function frame(kind: string, lines: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(Buffer.byteLength(lines) + 1);
  head.write(kind, 4);
  return Buffer.concat([head, Buffer.from(lines)]);
}

/** Milliseconds of the monotonic clock of the kernel, by which an init goes. */
const kernelMs = (): number => Math.floor(Number(process.hrtime.bigint()) / 1e6);

const order = (id: string): Buffer =>
  frame('I', `id=${id}\nsize=0\nbeginByMs=${kernelMs() + 10_000}\ntimeoutMs=10000\nversion=1\n`);

describe('memory', () => {
  it('of a call that is forgotten while its event goes out is not used afterwards', async () => {
    const init = await start(several);
    const peer = await waiting(init);
    peer.socket.pause();
    const id = init.agent.send(large, { timeoutMs: 300 });
    await init.agent.ended(id);
    init.agent.forget(id);
    // No word tells when the other side has come so far.
    await delay(100);
    peer.socket.resetAndDestroy();
    // No word tells when the other side has come so far.
    await delay(100);
    await waiting(init);
  });

  it('of a request for an event whose sender is gone before the word to go on is not used afterwards', async () => {
    const init = await start();
    const identity = { 'Lambda-Extension-Identifier': await (await init.connect()).register('inner', ['INVOKE']) };
    for (let round = 0; round < 20; round++) {
      const peer = await init.connect();
      peer.extension('GET', 'event/next', { ...identity, Expect: '100-continue' });
      peer.socket.resetAndDestroy();
    }
    // No word tells when the other side has come so far.
    await delay(50);
    const runtime = await init.connect();
    runtime.next();
    const id = init.agent.send({});
    // No word tells when the other side has come so far.
    await delay(50);
    const last = await init.connect();
    last.extension('GET', 'event/next', identity);
    await runtime.answer();
    runtime.respond(id, '1');
    await init.agent.ended(id);
  });

  it('survives numbers that are too large', async () => {
    const init = await start();
    init.agent.send({}, { order: { beginByMs: '9223372036854775807' } });
    init.agent.raw(frame('S', 'graceMs=9223372036854775807\n'));
    await waiting(init);
  });
});

describe('a call', () => {
  it('that a connection did not take in whole goes to another that waits, and begins once', async () => {
    const init = await start(several);
    const first = await waiting(init);
    first.socket.pause();
    const id = init.agent.send(large);
    await init.agent.until('the call to run', () => init.agent.events.includes(`C ${id} Running`));
    const second = await init.connect();
    second.next();
    // No word tells when the other side has come so far.
    await delay(50);
    first.socket.resetAndDestroy();
    expect((await second.answer()).headers['lambda-runtime-aws-request-id']).toBe(id);
    second.respond(id, '1');
    await init.agent.ended(id);
    expect(init.log().match(/START RequestId/g)).toHaveLength(1);
  });

  it('is handed over once extensions wait, as the initialization ends then', async () => {
    const { init, peer, identity } = await withExtension(['INVOKE']);
    const runtime = await init.connect();
    runtime.next();
    const id = init.agent.send({});
    await expect(runtime.answer(300)).rejects.toThrow('in vain');
    peer.extension('GET', 'event/next', identity);
    expect((await runtime.answer()).headers['lambda-runtime-aws-request-id']).toBe(id);
    expect(JSON.parse((await peer.answer()).body)).toMatchObject({ eventType: 'INVOKE', requestId: id });
  });

  it('that is forgotten and asked for again in one breath runs', async () => {
    const init = await start();
    init.agent.raw(order('again'));
    // No word tells when the other side has come so far.
    await delay(50);
    init.agent.raw(Buffer.concat([frame('F', 'id=again\n'), order('again')]));
    const runtime = await init.connect();
    runtime.next();
    expect((await runtime.answer()).headers['lambda-runtime-aws-request-id']).toBe('again');
  });

  it('whose id no header can carry is refused', async () => {
    const init = await start();
    init.agent.raw(order('a\\nb'));
    await init.agent.until(
      'a new connection',
      () => init.agent.events.filter((event) => event === 'H Starting').length > 1,
    );
  });

  it('that is read too late to be begun is told as not started, and the runtime does not have it', async () => {
    const init = await start();
    const peer = await waiting(init);
    const late = init.agent.send({}, { order: { beginByMs: String(kernelMs() - 1) } });
    expect((await init.agent.ended(late)).facts.outcome).toMatchObject({ kind: 'NotStarted' });
    const next = init.agent.send({});
    expect((await peer.answer()).headers['lambda-runtime-aws-request-id']).toBe(next);
  });

  it('that the agent forgets is told as not started while it waits, and as ended once it has run', async () => {
    const init = await start();
    const peer = await waiting(init);
    const [running, behind] = [init.agent.send({}), init.agent.send({})];
    await peer.answer();
    init.agent.forget(behind);
    expect((await init.agent.ended(behind)).facts.outcome).toMatchObject({ kind: 'NotStarted' });
    init.agent.forget(running);
    peer.respond(running, 'x'.repeat(1024 * 1024));
    expect((await init.agent.ended(running)).facts).toMatchObject({ outcome: { kind: 'Answered' } });
  });

  it('that is over answers 410 to what comes later, even where the answer had begun', async () => {
    const init = await start(several);
    const peer = await waiting(init);
    const id = init.agent.send({}, { timeoutMs: 300 });
    await peer.answer();
    peer.stream(id, 'begun');
    await init.agent.ended(id);
    peer.send('0\r\n\r\n');
    expect((await peer.answer()).status).toBe(410);
  });

  it('may stand still for longer than other requests while its answer is streamed', async () => {
    const init = await start();
    const peer = await waiting(init);
    const id = init.agent.send({});
    await peer.answer();
    peer.stream(id, 'one ');
    // The time is what is tested.
    await delay(1_500);
    peer.chunk('two');
    peer.send('0\r\n\r\n');
    const { facts, answer } = await init.agent.ended(id);
    expect(facts.outcome).toEqual({ kind: 'Answered' });
    expect(answer.toString()).toBe('one two');
  });

  it('has its output between START and END when the log stood still', async () => {
    const fifo = join(tmpdir(), `esb-init-fifo-${process.pid}`);
    await run('mkfifo', [fifo]);
    const log = openSync(fifo, constants.O_RDWR | constants.O_NONBLOCK);
    rmSync(fifo);
    onTestFinished(() => closeSync(log));
    expect(() => Array.from({ length: 100 }, () => writeSync(log, 'x'.repeat(4_096)))).toThrow('EAGAIN');
    const script =
      'while sleep 0.02; do if [ -e $FOLDER/go ]; then rm $FOLDER/go; echo of one; touch $FOLDER/done; fi; done';
    const init = await start({ argv: ['sh', '-c', script], stdout: log });
    const peer = await waiting(init);
    const id = init.agent.send({});
    await peer.answer();
    writeFileSync(join(init.folder, 'go'), '');
    await waitFor('the output', () => existsSync(join(init.folder, 'done')), { everyMs: 10 });
    peer.respond(id, '1');
    await init.agent.ended(id);
    const said = Buffer.alloc(100_000);
    let size = 0;
    const read = (): boolean => {
      size += readSync(log, said, size, said.length - size, null);
      return said.includes('REPORT');
    };
    await waitFor('the end', read, { everyMs: 10 });
    expect(said.toString()).toMatch(new RegExp(`START RequestId: ${id}[^\\n]*\\nof one\\nEND RequestId: ${id}`));
  });
});

describe('the processes', () => {
  it('have the signals of a program that a shell starts', async () => {
    const init = await start({ argv: ['sh', '-c', 'grep SigIgn /proc/self/status; exec sleep 1000'] });
    const line = await waitFor('the line', () => /SigIgn:\s+(\w+)/.exec(init.log())?.[1], { everyMs: 10 });
    expect(Number.parseInt(line, 16) & (1 << 12)).toBe(0);
  });

  it('are extensions where they are files, and no folders', async () => {
    const init = await start({ extensions: { folder: undefined } });
    await waiting(init);
  });

  it('that end after the first request, with an extension that has not asked yet, fail the initialization at once', async () => {
    const { init } = await withExtension(['INVOKE'], { argv: ['sh', '-c', 'sleep 0.5; exit 3'] });
    (await init.connect()).next();
    const fault = await init.agent.until('the fault', () => init.agent.phase?.fault, 3_000);
    expect(fault).toMatchObject({
      errorType: 'Runtime.ExitError',
      message: 'Runtime exited with error: exit status 3',
    });
  });

  it('that wait for many calls at once may hang up together', async () => {
    const init = await start({ program: [await initProgram()], flags: ['--concurrency', '80'] });
    for (let round = 0; round < 2; round += 1) {
      const peers = await Promise.all(Array.from({ length: 80 }, () => waiting(init)));
      for (const peer of peers) {
        peer.socket.destroy();
      }
      await init.agent.until('all to be gone', () => init.agent.phase?.idle === false);
    }
    await waiting(init);
    expect(init.agent.phase?.fault).toBeUndefined();
  });

  it('that want more connections than the init has descriptors for end the worker, which is told', async () => {
    const program = ['prlimit', '--nofile=64', await strictInitProgram()];
    const init = await start({ program, flags: ['--concurrency', '20'] });
    for (let count = 0; count < 120; count++) {
      await init.connect().catch(() => undefined);
    }
    const fault = await init.agent.until('the fault', () => init.agent.phase?.fault);
    expect(fault.message).toBe('the worker broke a bound of the Runtime API: 32 connections');
    await init.ended();
  });

  it('that ask for the next call over and over end the worker, which is told', async () => {
    const init = await start({ program: [await initProgram()] });
    for (let round = 0; !init.hasEnded() && round < 100; round += 1) {
      const peer = await init.connect().catch(() => undefined);
      peer?.next();
      await init.agent.until(
        'it',
        () => init.hasEnded() || init.agent.phase?.fault !== undefined || peer?.ended !== true,
        2_000,
      );
    }
    expect(await init.agent.until('the fault', () => init.agent.phase?.fault)).toMatchObject({
      message: 'the worker broke a bound of the Runtime API: one request for the next call at a time',
    });
  });

  it('that are started again share no connection with those before', async () => {
    const init = await start();
    const peer = await waiting(init);
    await init.agent.ended(init.agent.send({}, { timeoutMs: 200 }));
    await waitFor('the end of the connection', () => peer.ended, { everyMs: 5, timeoutMs: 2_000 });
    expect(init.agent.phase?.idle).toBe(false);
  });

  it('are told to end with what runs in them told as ended, and what waits as not begun', async () => {
    const init = await start();
    const peer = await waiting(init);
    const [running, behind] = [init.agent.send({}), init.agent.send({})];
    await peer.answer();
    init.agent.stop(5_000);
    expect((await init.agent.ended(running, 3_000)).facts.outcome).toMatchObject({ kind: 'Exited' });
    expect((await init.agent.ended(behind, 3_000)).facts.outcome).toMatchObject({ kind: 'NotStarted' });
    await init.ended();
  });

  it('that take no heed are killed after the grace, and the call in them is told as ended', async () => {
    const init = await start({ argv: trapping('') });
    const peer = await waiting(init);
    await trapped(init);
    const id = init.agent.send({});
    await peer.answer();
    init.agent.stop(200);
    expect((await init.agent.ended(id, 3_000)).facts.outcome).toMatchObject({ kind: 'Exited' });
    await init.ended();
  });
});

describe('the end of a worker', () => {
  it('comes while its extensions start, and waits for none of them', async () => {
    const init = await start({ extensions: { outer: asleep } });
    init.agent.stop(60_000);
    await init.ended();
    expect(init.agent.phase).toMatchObject({ phase: 'Stopping' });
  });

  it('comes while it starts again', async () => {
    const extensions = { outer: asleep.replace('exec', 'echo started; exec') };
    const { init, peer, identity } = await withExtension(['SHUTDOWN'], { flags: ['--grace-ms', '60000'], extensions });
    peer.extension('GET', 'event/next', identity);
    await waiting(init);
    await init.agent.ended(init.agent.send({}, { timeoutMs: 200 }));
    init.agent.stop(500);
    await init.ended();
    expect(init.log().match(/started/g)).toHaveLength(1);
  });

  it('gives a runtime that still answers no error where it asks for the next call', async () => {
    const init = await start({ argv: trapping('') });
    const peer = await waiting(init);
    await trapped(init);
    const id = init.agent.send({});
    await peer.answer();
    init.agent.stop(1_000);
    // No word tells when the other side has come so far.
    await delay(50);
    peer.respond(id, '1');
    expect((await peer.answer()).status).toBe(202);
    expect((await init.agent.ended(id)).facts.outcome).toEqual({ kind: 'Answered' });
    peer.next();
    // Nothing may happen meanwhile.
    await delay(200);
    expect(peer.ended).toBe(false);
  });
});

describe('an extension', () => {
  it('inside of the runtime that asks for the end is refused, and holds nothing up', async () => {
    const init = await start();
    const peer = await init.connect();
    peer.extension('POST', 'register', { 'Lambda-Extension-Name': 'inner' }, '{"events":["INVOKE","SHUTDOWN"]}');
    expect((await peer.answer()).status).toBe(403);
    await waiting(init);
  });

  it('may send its name along with its identifier', async () => {
    const { init, peer, identity } = await withExtension(['INVOKE']);
    peer.extension('GET', 'event/next', { ...identity, 'Lambda-Extension-Name': 'outer' });
    await waiting(init);
  });

  it('hears of a timeout, with the grace to end', async () => {
    const { init, peer, identity } = await withExtension(['INVOKE', 'SHUTDOWN'], { flags: ['--grace-ms', '300'] });
    peer.extension('GET', 'event/next', identity);
    await waiting(init);
    init.agent.send({}, { timeoutMs: 300 });
    expect((await peer.answer()).headers['lambda-extension-event-identifier']).toMatch(/^[0-9a-f]{8}-?/);
    peer.extension('GET', 'event/next', identity);
    expect(JSON.parse((await peer.answer()).body)).toMatchObject({ eventType: 'SHUTDOWN', shutdownReason: 'timeout' });
    await init.agent.until('the new start', () => init.agent.phase?.restarts === 1);
  });

  it('hears of the end once the runtime has ended', async () => {
    const argv = trapping('sleep 0.3; echo runtime down; exit');
    const { init, peer, identity } = await withExtension(['SHUTDOWN'], { argv });
    peer.extension('GET', 'event/next', identity);
    await waiting(init);
    await trapped(init);
    init.agent.stop(4_000);
    expect(JSON.parse((await peer.answer()).body)).toMatchObject({ eventType: 'SHUTDOWN', shutdownReason: 'spindown' });
    expect(init.log()).toContain('runtime down');
  });

  it('that wants to hear of no end is not waited for', async () => {
    const { init, peer, identity } = await withExtension(['INVOKE']);
    peer.extension('GET', 'event/next', identity);
    await waiting(init);
    init.agent.stop(60_000);
    await init.ended();
  });
});

describe('HTTP', () => {
  it('tells a refusal while the body is still being sent, and that the connection ends', async () => {
    const init = await start();
    const peer = await init.connect();
    peer.respond('unknown', 'x'.repeat(4 * 1024 * 1024));
    const answer = await peer.answer();
    expect(answer.status).toBe(400);
    expect(answer.headers.connection).toBe('close');
    await waitFor('the end of the connection', () => peer.ended, { everyMs: 5 });
  });

  it('takes a request that came with one that waited', async () => {
    const init = await start();
    const peer = await init.connect();
    peer.send('GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\n\r\n');
    await init.agent.idle();
    init.agent.send({});
    expect((await peer.answer()).status).toBe(200);
    expect((await peer.answer(1_000)).status).toBe(404);
  });

  it.each([
    ['a target with scheme and host', 'GET http://127.0.0.1:9001/nothing HTTP/1.1\r\n\r\n'],
    ['one field in two lines', 'GET /nothing HTTP/1.1\r\nConnection: keep-alive\r\nConnection: TE\r\n\r\n'],
    ['several options of a connection', 'GET /nothing HTTP/1.0\r\nConnection: TE, close\r\n\r\n'],
  ])('understands %s', async (_, request) => {
    const peer = await (await start()).connect();
    peer.send(request);
    expect((await peer.answer(1_000)).status).toBe(404);
  });

  it('answers HEAD without a body', async () => {
    const peer = await (await start()).connect();
    peer.send('HEAD /nothing HTTP/1.1\r\n\r\n');
    peer.socket.end();
    let bytes = '';
    for await (const data of peer.socket) {
      bytes += String(data);
    }
    expect(bytes).toMatch(/^HTTP\/1.1 404 [\s\S]*\r\n\r\n$/);
  });
});

describe('an agent', () => {
  it('that dies at any point leaves each byte of an answer to the next one', async () => {
    const init = await start();
    const peer = await waiting(init);
    const whole = Array.from({ length: 400_000 }, (_, index) => `${index.toString(16).padStart(7, '0')};`).join('');
    const id = init.agent.send({}, { timeoutMs: 60_000 });
    await peer.answer();
    peer.stream(id, ...(whole.match(/.{1,10000}/g) ?? []));
    peer.send('0\r\n\r\n');
    let told = 0;
    for (let round = 0; round < 25; round++) {
      init.agent.acknowledges = round % 4 !== 3;
      const some = (): boolean => init.agent.known(id).answer.length > (round % 5) * 9_000;
      await waitFor('some of it', some, { everyMs: 1 });
      const answer = init.agent.known(id).answer.toString();
      const from = answer === '' ? told : whole.indexOf(answer);
      expect(from).toBeGreaterThanOrEqual(0);
      expect(from).toBeLessThanOrEqual(told);
      told = Math.max(told, from + answer.length);
      await init.agent.die();
      await init.agent.listen();
    }
    init.agent.acknowledges = true;
    const { facts, answer } = await init.agent.ended(id);
    expect(facts).toMatchObject({ outcome: { kind: 'Answered' }, size: whole.length });
    expect(whole.endsWith(answer.toString())).toBe(true);
    expect(whole.length - answer.length).toBeLessThanOrEqual(told);
  });

  it('that takes more of an answer gets more, and one after it that does not say so no more than 64 KiB', async () => {
    const init = await start();
    const peer = await waiting(init);
    init.agent.acknowledges = false;
    const id = init.agent.send({}, { order: { window: String(1024 ** 3) } });
    await peer.answer();
    const [least, most] = [64 * 1024, 256 * 1024];
    peer.respond(id, 'y'.repeat(most + 1_000));
    const holds = async (bytes: number): Promise<void> => {
      const length = (): number | false =>
        init.agent.events.includes(`C ${id} Running`) && init.agent.known(id).answer.length;
      await waitFor(`${bytes} bytes`, () => length() === bytes);
      // Nothing may happen meanwhile.
      await delay(100);
      expect(length()).toBe(bytes);
    };
    await holds(most);
    await init.agent.die();
    await init.agent.listen();
    await holds(least);
    init.agent.acknowledge(id);
    await holds(2 * least);
    init.agent.acknowledges = true;
    init.agent.acknowledge(id);
    const { facts, answer } = await init.agent.ended(id);
    expect(facts).toMatchObject({ outcome: { kind: 'Answered' }, size: most + 1_000 });
    expect(answer).toHaveLength(most + 1_000);
  });

  it('that dies just after it made room for the end of an answer leaves that to the next one', async () => {
    const init = await start();
    const peer = await waiting(init);
    init.agent.acknowledges = false;
    const id = init.agent.send({});
    await peer.answer();
    const window = 64 * 1024;
    peer.respond(id, 'y'.repeat(window + 1_000));
    await waitFor(
      'a full window',
      () => init.agent.events.includes(`C ${id} Running`) && init.agent.known(id).answer.length === window,
    );
    // The init has read the rest, for which there is no room.
    await delay(100);
    init.stand(true);
    init.agent.acknowledge(id);
    await init.agent.die();
    await init.agent.listen();
    init.stand(false);
    const { facts, answer } = await init.agent.ended(id);
    expect(facts).toMatchObject({ outcome: { kind: 'Answered' }, size: window + 1_000 });
    expect(answer).toHaveLength(1_000);
    expect(await peer.answer()).toMatchObject({ status: 202 });
  });

  it('that hangs up at once is not asked again without a pause', async () => {
    const init = await start();
    await init.agent.die();
    const path = join(init.folder, 'agent.sock');
    rmSync(path, { force: true });
    let count = 0;
    const server = createServer((socket) => {
      count++;
      socket.destroy();
    }).listen(path);
    onTestFinished(() => void server.close());
    // The time is what is tested.
    await delay(1_000);
    expect(count).toBeGreaterThan(1);
    expect(count).toBeLessThan(15);
  });
});
