import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it, onTestFinished } from 'vitest';
import { ArrivedBytes } from '../../../src/agent/rpc/arrived-bytes.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { silentLogger } from '../../../src/common/logger.ts';
import type { InitAnswer, InitLink, InitNews, InitRequest, WorkerInits } from '../../../src/init/contract.ts';
import { createWorkerInits } from '../../../src/init/worker-inits.ts';
import { run } from '../../support/command.ts';
import { type BareInitOptions, type InitProcess, type Peer, startInitProcess } from '../../support/init-bare.ts';
import { checkedInitProgram } from '../../support/init-lab.ts';
import { waitFor } from '../../support/wait-for.ts';

const container = 'worker-1';
const KiB = 1024;
const MiB = 1024 * KiB;

interface Lab {
  /** The agent's side. */
  inits: WorkerInits;
  readonly runDir: string;
  readonly init: InitProcess;
  readonly news: InitNews[];
  readonly link: () => InitLink;
  /** Ends the agent, and starts the next. */
  restart(): Promise<void>;
}

async function start(options: BareInitOptions = {}): Promise<Lab> {
  const base = await mkdtemp(join(tmpdir(), 'esb-inits-'));
  onTestFinished(() => rm(base, { recursive: true, force: true }));
  // No path of a socket would be as long.
  const runDir = join(base, 'run'.padEnd(120, '-'));
  const news: InitNews[] = [];
  const agent = async (): Promise<WorkerInits> => {
    const inits = createWorkerInits({
      runDir,
      stateDir: join(base, 'state'),
      program: await checkedInitProgram(),
      clock: systemClock,
      logger: silentLogger(),
    });
    inits.subscribe((each) => news.push(each));
    await inits.start();
    return inits;
  };
  const lab = {
    inits: await agent(),
    runDir,
    news,
    link: (): InitLink => lab.inits.link(container) as InitLink,
    async restart() {
      await lab.inits.stop();
      lab.inits = await agent();
    },
  };
  onTestFinished(() => lab.inits.stop());
  const { folder } = await lab.inits.open(container);
  const own = join(base, 'own');
  await mkdir(own);
  // A container sees the folder by a short path.
  const seen = join('/tmp', `esb-inits-${process.pid}-${Math.random().toString(36).slice(2)}`);
  await symlink(folder, seen);
  onTestFinished(() => rm(seen, { force: true }));
  const init = await startInitProcess(own, join(seen, 'agent.sock'), options);
  onTestFinished(async () => expect(await init.close()).toBe(''));
  await waitFor('the init', () => lab.link().state, { everyMs: 5 });
  return Object.assign(lab, { init });
}

/** A connection of a runtime that waits for a call, in a worker that is idle. */
async function waiting(lab: Lab): Promise<Peer> {
  const peer = await lab.init.connect();
  peer.next();
  await waitFor('an idle worker', () => lab.link().state?.idle === true, { everyMs: 5 });
  return peer;
}

interface Sent {
  readonly answer: Promise<InitAnswer>;
  readonly heard: string[];
  readonly bytes: () => number;
  readonly body: () => string;
}

function send(lab: Lab, id: string, more: Partial<InitRequest> = {}): Sent {
  const heard: string[] = [];
  const chunks: Buffer[] = [];
  const answer = lab.link().call({
    requestId: id,
    payload: Buffer.from('{}'),
    timeoutMs: 10_000,
    boundMs: 20_000,
    functionArn: 'arn:aws:lambda:us-east-1:012345678912:function:tried',
    version: '$LATEST',
    clientContext: '',
    traceId: '',
    onSending: () => heard.push('sending'),
    onHead: ({ contentType, streaming }) => heard.push(`${contentType} ${streaming}`),
    onChunk: (chunk) => {
      heard.push('chunk');
      chunks.push(chunk);
    },
    ...more,
  });
  return {
    answer,
    heard,
    bytes: () => chunks.reduce((sum, { length }) => sum + length, 0),
    body: () => Buffer.concat(chunks).toString(),
  };
}

const ended = (outcome: string): unknown => ({ kind: 'Ended', end: expect.objectContaining({ outcome }) });

describe('the inits of a node', () => {
  it('can connect to an agent whose disk does not give the program, and new workers wait for it', async () => {
    const base = await mkdtemp(join(tmpdir(), 'esb-inits-'));
    onTestFinished(() => rm(base, { recursive: true, force: true }));
    const [runDir, program] = [join(base, 'run'), join(base, 'program')];
    const folder = join(runDir, 'inits', container);
    await mkdir(folder, { recursive: true });
    // A read ends only once the pipe is written to.
    await run('mkfifo', [program]);
    const inits = createWorkerInits({
      runDir,
      stateDir: join(base, 'state'),
      program,
      clock: systemClock,
      logger: silentLogger(),
    });
    onTestFinished(() => inits.stop());
    await inits.start();
    expect((await stat(join(folder, 'agent.sock'))).isSocket()).toBe(true);
    const opened = inits.open('worker-2');
    await writeFile(program, 'the program');
    expect(await readFile((await opened).program, 'utf8')).toBe('the program');
  });
});

describe('a worker', () => {
  it('is ready when its runtime waits, and answers calls', async () => {
    const lab = await start();
    const ready = lab.inits.untilReady(container, AbortSignal.timeout(10_000));
    const peer = await waiting(lab);
    expect(await ready).toMatchObject({ phase: 'Ready', restarts: 0 });
    for (const id of ['first', 'second']) {
      const sent = send(lab, id, { payload: Buffer.from('{"a":1}') });
      expect(sent.heard).toEqual(['sending']);
      expect(lab.link().state?.idle).toBe(false);
      const call = await peer.answer();
      expect(call).toMatchObject({ body: '{"a":1}', headers: { 'lambda-runtime-aws-request-id': id } });
      expect(Number(call.headers['lambda-runtime-deadline-ms']) - Date.now()).toBeGreaterThan(9_000);
      peer.respond(id, 'fine', { 'Content-Type': 'text/plain' });
      await peer.answer();
      peer.next();
      expect(await sent.answer).toEqual(ended('Answered'));
      expect(sent.heard).toEqual(['sending', 'text/plain false', 'chunk']);
      expect(sent.body()).toBe('fine');
      await waitFor('an idle worker', () => lab.link().state?.idle === true, { everyMs: 5 });
    }
  });

  it('that fails in its initialization says so in the words of its runtime', async () => {
    const lab = await start();
    const ready = lab.inits.untilReady(container, AbortSignal.timeout(10_000));
    const peer = await lab.init.connect();
    const headers = { 'Lambda-Runtime-Function-Error-Type': 'Function.Sad' };
    peer.request('POST', '/2018-06-01/runtime/init/error', headers, '{"errorMessage":"no cheese"}');
    await expect(ready).rejects.toMatchObject({ code: 'InitFailed', message: 'Function.Sad: no cheese' });
  });

  it('takes an event of 6 MiB, and streams an answer only as fast as its receiver has room', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    let room = Promise.withResolvers<void>();
    const payload = Buffer.from(JSON.stringify('e'.repeat(6 * MiB - 2)));
    const sent = send(lab, 'large', { payload, room: () => room.promise });
    expect((await peer.answer(20_000)).body).toHaveLength(6 * MiB);
    peer.stream('large', ...Array.from({ length: 40 }, () => 'a'.repeat(10_000)));
    peer.send('0\r\n\r\n');
    await waitFor('a full window', () => sent.bytes() === 64 * KiB, { everyMs: 5 });
    // Nothing may happen meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(sent.bytes()).toBe(64 * KiB);
    room.resolve();
    expect(await sent.answer).toMatchObject({ kind: 'Ended', end: { outcome: 'Answered', size: 400_000 } });
    expect(sent.bytes()).toBe(400_000);
    expect(sent.heard[1]).toMatch(/ true$/);
    room = Promise.withResolvers();
  });

  it('goes on with a call that nobody waits for, and says when it is over', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    const [first] = [send(lab, 'first')];
    await peer.answer();
    lab.link().abort('first', 'the caller has gone');
    expect(await first.answer).toEqual({ kind: 'Unknown', message: 'the caller has gone' });
    peer.respond('first', 'x'.repeat(MiB));
    await peer.answer();
    peer.next();
    await waitFor('an idle worker', () => lab.link().state?.idle === true, { everyMs: 5 });
  });

  it('tells the next agent of calls that it had and forgot, so that any other was not sent', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    lab.link().serveAlone(false);
    // The time is what is tested.
    await delay(1_000);
    const arrival = new ArrivedBytes();
    const sent = send(lab, 'had', { arrival: () => arrival });
    await peer.answer();
    peer.respond('had', '{}');
    expect(await sent.answer).toEqual(ended('Answered'));
    arrival.end();
    // The time is what is tested.
    await delay(1_000);
    await lab.restart();
    await waitFor('the init', () => lab.link()?.state, { everyMs: 5 });
    const link = lab.link();
    expect(link.found.running).toBe(0);
    expect(['had', 'never'].map((id) => link.neverHad(id, 500))).toEqual([false, true]);
    // The worker may have had another container then.
    expect(link.neverHad('never', 60_000)).toBe(false);
    link.serveBeside();
    link.serveAlone(true);
    await lab.restart();
    await waitFor('the init', () => lab.link()?.state, { everyMs: 5 });
    expect(lab.link().neverHad('never', 500)).toBe(false);
  });

  it('times a call out from the moment at which the runtime has it', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    const sent = send(lab, 'slow', { timeoutMs: 300 });
    await peer.answer();
    expect(await sent.answer).toMatchObject({
      end: { outcome: 'Timeout', errorType: 'Sandbox.Timedout', message: 'Task timed out after 0.30 seconds' },
    });
    await waitFor('the new start', () => lab.link().state?.restarts === 1, { everyMs: 5 });
    // A call that is sent now would be over before the next runtime takes it.
    expect(lab.link().state).toMatchObject({ phase: 'Starting', idle: false });
    await waitFor('the next runtime', async () => {
      // One that asks before the processes of before are gone is hung up on.
      (await lab.init.connect()).next();
      return lab.link().state?.phase === 'Ready';
    });
  });

  it('that no runtime waits in tells a call as not started, once it could not end in time', async () => {
    const lab = await start();
    (await waiting(lab)).socket.destroy();
    await waitFor('a worker without a runtime', () => lab.link().state?.idle === false, { everyMs: 5 });
    const sent = send(lab, 'never', { timeoutMs: 1_000, boundMs: 3_000 });
    expect(await sent.answer).toEqual(ended('NotStarted'));
  });

  it('whose init ends leaves its call unknown, and is not called any more', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    const sent = send(lab, 'lost');
    await peer.answer();
    await lab.init.close();
    expect(await sent.answer).toMatchObject({ kind: 'Unknown' });
    expect(lab.link().state).toBeUndefined();
    expect(lab.news.at(-1)).toMatchObject({ state: undefined, breach: undefined });
    expect(await send(lab, 'later').answer).toMatchObject({ kind: 'NotSent' });
  });

  it('that is gone has no files', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    const sent = send(lab, 'lost');
    await peer.answer();
    expect(await lab.inits.list()).toEqual([container]);
    await lab.inits.remove(container);
    expect(await sent.answer).toMatchObject({ kind: 'Unknown' });
    expect(await lab.inits.list()).toEqual([]);
    expect(lab.inits.link(container)).toBeUndefined();
    await lab.inits.remove(container);
  });
});

describe('the next agent', () => {
  it('finds the calls of the one before, and hears when they end, however large the answer', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    const sent = send(lab, 'kept');
    await peer.answer();
    await lab.restart();
    expect(await sent.answer).toMatchObject({ kind: 'Unknown' });
    const running = { running: 1, requestId: 'kept' };
    await waitFor('the call', () => lab.link().found.running > 0, { everyMs: 5 });
    expect(lab.link()).toMatchObject({ found: running, state: { phase: 'Ready', idle: false } });
    peer.respond('kept', 'x'.repeat(MiB));
    let bytes = 0;
    const taker = {
      onHead: () => undefined,
      onChunk: (chunk: Buffer) => {
        bytes += chunk.length;
      },
    };
    // Waits for one who asks.
    expect(await lab.link().recover('kept', 0, taker)).toEqual(ended('Answered'));
    expect(bytes).toBe(MiB);
    expect(await peer.answer()).toMatchObject({ status: 202 });
    await waitFor('its end', () => lab.link().found.running === 0, { everyMs: 5 });
    peer.next();
    await waitFor('an idle worker', () => lab.link().state?.idle === true, { everyMs: 5 });
    const after = send(lab, 'after');
    await peer.answer();
    peer.respond('after', 'fine');
    expect(await after.answer).toEqual(ended('Answered'));
  });

  it('finds an answer that waits for it', async () => {
    const lab = await start();
    const peer = await waiting(lab);
    send(lab, 'kept');
    await peer.answer();
    await lab.inits.stop();
    peer.respond('kept', 'fine');
    await peer.answer();
    await lab.restart();
    await waitFor('the init', () => lab.link().state, { everyMs: 5 });
    expect(lab.link().found.running).toBe(0);
    const chunks: string[] = [];
    const taker = { onHead: () => undefined, onChunk: (chunk: Buffer) => chunks.push(chunk.toString()) };
    expect(await lab.link().recover('kept', 0, taker)).toEqual(ended('Answered'));
    expect(chunks).toEqual(['fine']);
  });
});

describe('an agent without the program', () => {
  it('serves the workers that are there, and opens no other', async () => {
    const base = await mkdtemp(join(tmpdir(), 'esb-inits-'));
    onTestFinished(() => rm(base, { recursive: true, force: true }));
    const options = { runDir: base, stateDir: base, clock: systemClock, logger: silentLogger() };
    await mkdir(join(base, 'inits', container), { recursive: true });
    const inits = createWorkerInits({ ...options, program: join(base, 'none') });
    onTestFinished(() => inits.stop());
    await expect(inits.open('worker-2')).rejects.toMatchObject({ code: 'Unavailable' });
    await inits.start();
    expect(inits.link(container)).toBeDefined();
    await expect(inits.open('worker-2')).rejects.toMatchObject({ code: 'ProgramMissing' });
    await expect(inits.untilReady('worker-2', AbortSignal.timeout(1_000))).rejects.toMatchObject({ code: 'NotFound' });
    expect(await readdir(join(base, 'inits', container))).toEqual(['agent.sock']);
  });

  it('keeps no program but its own', async () => {
    const base = await mkdtemp(join(tmpdir(), 'esb-inits-'));
    onTestFinished(() => rm(base, { recursive: true, force: true }));
    const old = join(base, 'init', 'ab'.repeat(32));
    await mkdir(old, { recursive: true });
    await writeFile(join(old, 'esb-init'), 'old');
    const program = await checkedInitProgram();
    const shared = { runDir: base, stateDir: base, program, clock: systemClock, logger: silentLogger() };
    for (const inits of [createWorkerInits(shared), createWorkerInits(shared)]) {
      onTestFinished(() => inits.stop());
      await inits.start();
      const { program: installed } = await inits.open('w');
      expect(await stat(installed)).toMatchObject({ size: (await stat(program)).size });
      expect(await readdir(join(base, 'init'))).toEqual([basename(dirname(installed))]);
      await inits.stop();
    }
  });

  it('opens workers once the program is there', async () => {
    const base = await mkdtemp(join(tmpdir(), 'esb-inits-'));
    onTestFinished(() => rm(base, { recursive: true, force: true }));
    const program = join(base, 'program');
    const inits = createWorkerInits({
      runDir: base,
      stateDir: base,
      program,
      clock: systemClock,
      logger: silentLogger(),
    });
    onTestFinished(() => inits.stop());
    await inits.start();
    await expect(inits.open(container)).rejects.toMatchObject({ code: 'ProgramMissing' });
    await writeFile(program, 'program');
    expect(await inits.open(container)).toMatchObject({ folder: join(base, 'inits', container) });
  });
});

describe('the files', () => {
  it('are open to a container alone', async () => {
    const lab = await start();
    const { program, folder } = await lab.inits.open(container);
    const mode = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8);
    expect(await mode(join(lab.runDir, 'inits'))).toBe('700');
    expect(await mode(folder)).toBe('755');
    expect(await mode(program)).toBe('755');
    expect(program).toMatch(/state\/init\/[0-9a-f]{64}\/esb-init$/);
  });

  it('have no socket while an init is connected', async () => {
    const lab = await start();
    const { folder } = await lab.inits.open(container);
    expect(await readdir(folder)).toEqual([]);
    const second = connect(join(folder, 'agent.sock'));
    await expect(new Promise((_, reject) => second.once('error', reject))).rejects.toBeDefined();
  });
});
