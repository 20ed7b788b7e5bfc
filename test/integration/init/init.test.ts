import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { ensureSampleImage } from '../../../local/image/sample-image.ts';
import { createProgress } from '../../../src/cli/progress.ts';
import { run } from '../../support/command.ts';
import { type InitWorker, type InitWorkerOptions, importLayout, startInitWorker } from '../../support/init-lab.ts';
import { type Lab, startLab } from '../../support/lab.ts';
import { toolsFolder } from '../../support/tools.ts';
import { waitFor } from '../../support/wait-for.ts';

const fixture = (name: string): Promise<string> =>
  readFile(fileURLToPath(new URL(`./fixtures/${name}`, import.meta.url)), 'utf8');

describe('the init of a worker', () => {
  let lab: Lab;
  let image: string;
  let runtime: string;
  let extension: string;

  beforeAll(async () => {
    lab = await startLab();
    const progress = createProgress({ write: () => undefined });
    const sample = await ensureSampleImage('python-counter', { progress, tools: toolsFolder() });
    image = await importLayout(lab, sample.layout, 'sample/python:1');
    runtime = await fixture('runtime.py');
    extension = await fixture('extension.py');
  }, 120_000);
  afterAll(() => lab?.close());

  /** A worker with the runtime of the tests, ended with the test. */
  const start = async (options: Partial<InitWorkerOptions> = {}): Promise<InitWorker> => {
    const worker = await startInitWorker(lab, {
      image,
      argv: ['python3', '/fixture/runtime.py'],
      files: { 'runtime.py': runtime },
      ...options,
    });
    onTestFinished(async () => {
      await worker.agent.die();
      await lab.ctr('tasks', 'rm', '--force', worker.id).catch(() => undefined);
      await lab.ctr('containers', 'rm', worker.id).catch(() => undefined);
    });
    return worker;
  };
  const json = (answer: Buffer): Record<string, unknown> => JSON.parse(answer.toString()) as Record<string, unknown>;
  const runtimeOf = async (worker: InitWorker): Promise<number | undefined> =>
    [...(await worker.processes())].find(([, command]) => command.includes('runtime.py'))?.[0];

  describe('initialization', () => {
    it('is over before any call, and does not count against its timeout', async () => {
      const worker = await start({ env: { INIT_SLEEP: '1.5' } });
      const { initMs } = await worker.agent.idle();
      expect(initMs).toBeGreaterThan(1_500);
      const { facts, answer } = await worker.agent.call({}, { timeoutMs: 1_000 });
      expect(facts.outcome).toEqual({ kind: 'Answered' });
      expect(json(answer)).toMatchObject({ counter: 1 });
    });

    it.each([
      [
        'reports an error',
        { INIT_ERROR: 'no cheese' },
        { errorType: 'Function.Sad', body: '{"errorMessage": "no cheese", "errorType": "Sad"}' },
      ],
      [
        'exits',
        { INIT_EXIT: '3' },
        { errorType: 'Runtime.ExitError', message: 'Runtime exited with error: exit status 3' },
      ],
      [
        'takes too long',
        { INIT_SLEEP: '60' },
        { errorType: 'Sandbox.Timedout', message: 'Task timed out after 2.00 seconds' },
      ],
    ])('that %s is told in the words of Lambda, and ends the container', async (_, env, fault) => {
      const worker = await start({ env, flags: ['--init-timeout-ms', '2000'] });
      const told = await worker.agent.until('the fault', () => worker.agent.phase?.fault);
      expect(told).toMatchObject(fault);
      await waitFor('the end of the container', () => worker.ended());
    });

    it('of a program that is not there names the program', async () => {
      const worker = await start({ argv: ['no-such-program'] });
      const told = await worker.agent.until('the fault', () => worker.agent.phase?.fault);
      expect(told).toMatchObject({ errorType: 'Runtime.InvalidEntrypoint' });
      expect(told.message).toContain('"no-such-program": executable file not found');
    });
  });

  describe('a call', () => {
    it('that is over its deadline ends the runtime; container, network, files and log stay', async () => {
      const worker = await start();
      await worker.agent.idle();
      const before = json((await worker.agent.call({ write: 'kept', print: 'before' })).answer);
      const { facts } = await worker.agent.call({ sleep: 30 }, { timeoutMs: 1_000 });
      expect(facts.outcome).toEqual({
        kind: 'Timeout',
        errorType: 'Sandbox.Timedout',
        message: 'Task timed out after 1.00 seconds',
      });
      expect((await worker.agent.idle()).restarts).toBe(1);
      const after = json((await worker.agent.call({ print: 'after' })).answer);
      expect(after).toMatchObject({ counter: 1, kept: 'kept', netns: before.netns });
      await waitFor('the log', async () => /before[\s\S]*after/.test(await worker.log()));
    });

    it('whose runtime exits is told so, and the next one has a new runtime', async () => {
      const worker = await start();
      await worker.agent.idle();
      const { facts } = await worker.agent.call({ exit: 7 });
      expect(facts.outcome).toEqual({
        kind: 'Exited',
        errorType: 'Runtime.ExitError',
        message: 'Runtime exited with error: exit status 7',
      });
      expect((await worker.agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
    });

    it('that the runtime leaves for the next one is interrupted', async () => {
      const worker = await start();
      await worker.agent.idle();
      const { facts } = await worker.agent.call({ skip: true });
      expect(facts.outcome).toMatchObject({ kind: 'Interrupted', errorType: 'Runtime.InvalidStateTransition' });
      expect(json((await worker.agent.call({})).answer)).toMatchObject({ counter: 1 });
    });

    it('returns an error that the runtime reports as one, whatever an answer looks like', async () => {
      const worker = await start();
      await worker.agent.idle();
      const { facts, answer } = await worker.agent.call({ error: 'out of cheese' });
      expect(facts.outcome).toEqual({ kind: 'Error', errorType: 'Raised' });
      expect(json(answer)).toEqual({ errorMessage: 'out of cheese', errorType: 'Raised' });
    });

    it('of 6 MiB arrives in whole, and so does its answer; a larger answer is refused', async () => {
      const worker = await start();
      await worker.agent.idle();
      const event = Buffer.from(JSON.stringify({ filler: 'y'.repeat(6 * 1024 * 1024 - 14) }));
      expect(json((await worker.agent.call(event)).answer)).toMatchObject({ size: event.length });
      const most = 6 * 1024 * 1024 + 100;
      expect((await worker.agent.call({ bytes: most })).answer).toHaveLength(most);
      for (const bytes of [most + 1, 3 * most]) {
        const { facts } = await worker.agent.call({ bytes });
        expect(facts.outcome).toMatchObject({ kind: 'TooLarge', errorType: 'Function.ResponseSizeTooLarge' });
      }
      await waitFor('the refusals', async () => (await worker.log()).split('runtime: answered 413').length === 3);
      expect((await worker.agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
    });

    it('has its output between START and END, whichever stream it is written to', async () => {
      const worker = await start();
      await worker.agent.idle();
      const ids = Array.from({ length: 20 }, (_, index) => `call-${index}`);
      for (const id of ids) {
        await worker.agent.call({ print: `of ${id}`, error: `of ${id}, too` }, { id });
      }
      const lines = await waitFor('the log', async () => {
        const found = (await worker.log()).split('\n').filter((line) => /^(START|END|of )/.test(line));
        return found.length >= 4 * ids.length && found;
      });
      expect(lines).toEqual(
        ids.flatMap((id) => [
          `START RequestId: ${id} Version: $LATEST`,
          `of ${id}`,
          `of ${id}, too`,
          `END RequestId: ${id}`,
        ]),
      );
    });

    it('begins by the clock that no one sets', async () => {
      const worker = await start();
      await worker.agent.idle();
      const { stdout } = await run('python3', ['-c', 'import time; print(time.monotonic_ns() // 1_000_000)']);
      const begin = async (kernelMs: number): Promise<unknown> => {
        const order = { beginByMs: String(Number(stdout) + kernelMs) };
        return (await worker.agent.call({}, { order })).facts.outcome;
      };
      expect(await begin(60_000)).toEqual({ kind: 'Answered' });
      expect(await begin(-1)).toMatchObject({ kind: 'NotStarted' });
    });

    it('leaves no dead process behind', async () => {
      const worker = await start();
      await worker.agent.idle();
      await worker.agent.call({ orphan: true });
      await waitFor('the orphan to end', async () => (await worker.processes()).size === 1);
    });
  });

  it('tells of an answer once more, as often as its agent asks', async () => {
    const worker = await start();
    await worker.agent.idle();
    worker.agent.acknowledges = false;
    const id = worker.agent.send({ bytes: 1_000 });
    await worker.agent.ended(id);
    for (const number of [1, 2]) {
      const before = worker.agent.events.length;
      worker.agent.tellAgain(id, number);
      await worker.agent.until('the end', () => worker.agent.events.slice(before).includes(`C ${id} Answered`));
      const told = worker.agent.events.slice(before).filter((event) => event.startsWith('C'));
      expect(told).toEqual([`C ${id} Running again ${number}`, `C ${id} Answered`]);
      expect(worker.agent.repeated).toBe(number * 1_000);
    }
    worker.agent.forget(id);
    const before = worker.agent.events.length;
    worker.agent.tellAgain(id, 3);
    expect((await worker.agent.call({ print: 'next' })).facts.outcome).toEqual({ kind: 'Answered' });
    expect(worker.agent.events.slice(before).filter((event) => event.includes(id))).toEqual([]);
  });

  describe('an agent that is killed', () => {
    it('in a running call gets its answer when the agent is back, and the runtime lives', async () => {
      const worker = await start();
      await worker.agent.idle();
      const before = await runtimeOf(worker);
      const id = worker.agent.send({ sleep: 1, print: 'once' });
      await worker.agent.until('the call to run', () => worker.agent.events.includes(`C ${id} Running`));
      await worker.agent.die();
      // The length of the outage is what is tested.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      await worker.agent.listen();
      const { facts, answer } = await worker.agent.ended(id);
      expect(facts.outcome).toEqual({ kind: 'Answered' });
      expect(json(answer)).toMatchObject({ counter: 1 });
      expect(await runtimeOf(worker)).toBe(before);
    });

    it('after the answer was read and before it was acknowledged reads it again', async () => {
      const worker = await start();
      await worker.agent.idle();
      worker.agent.acknowledges = false;
      const id = worker.agent.send({ bytes: 1_000 });
      await worker.agent.ended(id);
      await worker.agent.die();
      await worker.agent.listen();
      const { answer } = await worker.agent.ended(id);
      expect(answer).toHaveLength(1_000);
      worker.agent.forget(id);
      expect((await worker.agent.call({ print: 'next' })).facts.outcome).toEqual({ kind: 'Answered' });
    });

    it('in a stream loses no byte of it; a reader that is away stops the runtime within 64 KiB', async () => {
      const worker = await start();
      await worker.agent.idle();
      const size = 10_000;
      const id = worker.agent.send({ stream: { count: 300, size, pause: 0.001 } }, { timeoutMs: 30_000 });
      await worker.agent.until('the stream to begin', () => worker.agent.events.includes(`C ${id} Running`));
      await waitFor('some of it', () => worker.agent.known(id).answer.length > 100_000, { everyMs: 5 });
      const first = worker.agent.known(id).answer;
      await worker.agent.die();
      // The length of the outage is what is tested.
      await new Promise((resolve) => setTimeout(resolve, 500));
      await worker.agent.listen();
      const { facts, answer } = await worker.agent.ended(id, 30_000);
      expect(facts).toMatchObject({ streaming: true, contentType: 'text/plain', outcome: { kind: 'Answered' } });
      const whole = Buffer.concat(Array.from({ length: 300 }, (_, index) => Buffer.alloc(size, 97 + (index % 26))));
      expect(facts.size).toBe(whole.length);
      // The second agent got the end of the whole; the two together have all of it.
      expect(answer.equals(whole.subarray(whole.length - answer.length))).toBe(true);
      expect(first.length + answer.length).toBeGreaterThanOrEqual(whole.length);
      expect(first.length + answer.length).toBeLessThanOrEqual(whole.length + 2 * 64 * 1024);
    });

    it('does not count in the time of a call whose answer waits for the next agent', async () => {
      const worker = await start();
      await worker.agent.idle();
      const before = await runtimeOf(worker);
      const stream = { count: 300, size: 10_000, pause: 0.001 };
      const id = worker.agent.send({ stream }, { timeoutMs: 3_000 });
      await waitFor('some of it', () => worker.agent.known(id).answer.length > 0, { everyMs: 5 });
      await worker.agent.die();
      // The length of the outage is what is tested.
      await new Promise((resolve) => setTimeout(resolve, 4_000));
      await worker.agent.listen();
      const { facts } = await worker.agent.ended(id, 30_000);
      expect(facts).toMatchObject({ outcome: { kind: 'Answered' }, size: stream.count * stream.size });
      expect((await worker.agent.idle()).restarts).toBe(0);
      expect(await runtimeOf(worker)).toBe(before);
    });

    it('and does not come back ends a call whose answer waits for it, once answers are kept no longer', async () => {
      const worker = await start({ flags: ['--keep-answers-ms', '2000'] });
      await worker.agent.idle();
      const stream = { count: 300, size: 10_000, pause: 0.001 };
      const id = worker.agent.send({ stream }, { timeoutMs: 1_000 });
      await waitFor('some of it', () => worker.agent.known(id).answer.length > 0, { everyMs: 5 });
      const before = await runtimeOf(worker);
      await worker.agent.die();
      await waitFor('another runtime', async () => ![before, undefined].includes(await runtimeOf(worker)));
      await worker.agent.listen();
      expect((await worker.agent.idle()).restarts).toBe(1);
    });

    it('before an event has arrived in whole leaves no trace of that call', async () => {
      const worker = await start();
      await worker.agent.idle();
      worker.agent.send(Buffer.from('{'), { id: 'half', order: { size: 100 } as unknown as Record<string, string> });
      await worker.agent.die();
      await worker.agent.listen();
      await worker.agent.idle();
      expect(json((await worker.agent.call({}, { id: 'half' })).answer)).toMatchObject({ counter: 1 });
    });

    it('while the worker is frozen is followed by one that thaws and calls it', async () => {
      const worker = await start();
      await worker.agent.idle();
      const before = await runtimeOf(worker);
      await worker.pause();
      await worker.agent.die();
      await worker.agent.listen();
      await worker.resume();
      await worker.agent.idle();
      expect(json((await worker.agent.call({})).answer)).toMatchObject({ counter: 1 });
      expect(await runtimeOf(worker)).toBe(before);
    });
  });

  describe('a worker with extensions', () => {
    it('starts them first, tells them of calls and of the end, and is idle once they are', async () => {
      const worker = await start({ extensions: { 'alpha.py': extension, 'beta.py': extension } });
      await worker.agent.idle();
      const id = worker.agent.send({ print: 'called' });
      await worker.agent.ended(id);
      expect(worker.agent.phase?.idle).toBe(false);
      worker.agent.forget(id);
      await worker.agent.idle();
      worker.agent.stop(2_000);
      await waitFor('the end of the container', () => worker.ended());
      const log = await worker.log();
      for (const name of ['alpha.py', 'beta.py']) {
        expect(log.indexOf(`${name}: registered`)).toBeLessThan(log.indexOf('START RequestId'));
        expect(log).toContain(`${name}: INVOKE ${id}`);
        expect(log).toContain(`${name}: SHUTDOWN spindown`);
      }
      expect(log).toContain('runtime: SIGTERM');
    });
  });

  describe('several calls at once', () => {
    it('are in one runtime, each with its own outcome and timeout', async () => {
      const worker = await start({ flags: ['--concurrency', '3'], env: { THREADS: '3' } });
      await worker.agent.idle();
      const slow = worker.agent.send({ sleep: 3 }, { timeoutMs: 1_000 });
      const others = [worker.agent.send({ sleep: 0.5 }), worker.agent.send({ sleep: 0.5 })];
      const beyond = worker.agent.send({});
      await worker.agent.until('three to run', () => {
        const running = worker.agent.events.filter((event) => event.endsWith('Running'));
        return new Set(running).size === 3;
      });
      for (const id of [...others, beyond]) {
        expect((await worker.agent.ended(id)).facts.outcome).toEqual({ kind: 'Answered' });
      }
      expect((await worker.agent.ended(slow)).facts.outcome).toMatchObject({ kind: 'Timeout' });
      // The init tells of the held place before the end of the call.
      expect(worker.agent.phase).toMatchObject({ places: 3, held: 1 });
      expect((await worker.agent.idle()).restarts).toBe(0);
      await waitFor('the late answer to be refused', async () => (await worker.log()).includes('answered 410'));
      await worker.agent.until('the place to be free', () => worker.agent.phase?.held === 0);
      expect(worker.agent.phase).toMatchObject({ places: 3, idle: true, restarts: 0 });
    });

    it('are 64 in one runtime, each answered with its own event', async () => {
      const worker = await start({ flags: ['--concurrency', '64'], env: { THREADS: '64' } });
      await worker.agent.until('64 places', () => worker.agent.phase?.places === 64);
      const ids = Array.from({ length: 128 }, (_, index) => worker.agent.send({ sleep: 0.2, pad: 'x'.repeat(index) }));
      for (const [index, id] of ids.entries()) {
        const { answer, facts } = await worker.agent.ended(id);
        expect(facts.outcome).toEqual({ kind: 'Answered' });
        expect(JSON.parse(answer.toString()).size).toBe(JSON.stringify({ sleep: 0.2, pad: 'x'.repeat(index) }).length);
      }
      expect(await worker.agent.idle()).toMatchObject({ restarts: 0, places: 64, held: 0 });
    });

    it('are idle only once all that the runtime asked with waits again', async () => {
      const worker = await start({ flags: ['--concurrency', '3'], env: { THREADS: '3' } });
      await worker.agent.until('three places', () => worker.agent.phase?.places === 3);
      await worker.agent.idle();
      const long = worker.agent.send({ linger: 1 });
      await worker.agent.ended(long);
      expect((await worker.agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
      expect(worker.agent.phase?.idle).toBe(false);
      expect(await worker.agent.idle()).toMatchObject({ held: 0 });
    });

    it('hold a place each that does not wait for calls again in the time of the last one', async () => {
      const worker = await start({ flags: ['--concurrency', '3'], env: { THREADS: '3' } });
      await worker.agent.until('three places', () => worker.agent.phase?.places === 3);
      await worker.agent.call({ linger: 60 }, { timeoutMs: 1_000 });
      expect(await worker.agent.idle()).toMatchObject({ places: 3, held: 1, restarts: 0 });
      expect((await worker.agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
    });

    it('start the runtime again once none of it waits, or where it never asked for more than one', async () => {
      const worker = await start({ flags: ['--concurrency', '2'], env: { THREADS: '2' } });
      await worker.agent.until('two places', () => worker.agent.phase?.places === 2);
      const both = [1, 2].map(() => worker.agent.send({ sleep: 60 }, { timeoutMs: 500 }));
      for (const id of both) {
        expect((await worker.agent.ended(id)).facts.outcome).toMatchObject({ kind: 'Timeout' });
      }
      await worker.agent.until('a restart', () => worker.agent.phase?.restarts === 1);
      expect((await worker.agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
      const alone = await start({ flags: ['--concurrency', '8'] });
      await alone.agent.idle();
      const [first, second] = [alone.agent.send({ sleep: 60 }, { timeoutMs: 1_000 }), alone.agent.send({})];
      expect((await alone.agent.ended(first)).facts.outcome).toMatchObject({ kind: 'Timeout' });
      await alone.agent.until('a restart', () => alone.agent.phase?.restarts === 1);
      expect(['Answered', 'NotStarted']).toContain((await alone.agent.ended(second)).facts.outcome?.kind);
      expect((await alone.agent.call({})).facts.outcome).toEqual({ kind: 'Answered' });
      expect(alone.agent.phase).toMatchObject({ places: 1, held: 0 });
    });
  });

  describe('a hostile program in the worker', () => {
    it.each([
      ['begins requests and does not end them', 'slow'],
      ['sends headers without end', 'headers'],
    ])('that %s is held within a few MiB, and nothing else than its worker suffers', async (_, kind) => {
      const worker = await start({ files: { 'runtime.py': runtime, 'hostile.py': await fixture('hostile.py') } });
      await worker.agent.idle();
      const { code } = await run(
        'timeout',
        [
          '10',
          join(toolsFolder(), 'ctr'),
          ...['-a', lab.socketPath, '-n', 'esb', 'tasks', 'exec', '--exec-id', kind, worker.id],
          ...['/usr/bin/python3', '/fixture/hostile.py', kind],
        ],
        { mayFail: true },
      );
      // A program that takes the runtime's place is killed with it.
      expect([0, 137]).toContain(code);
      const anonymous = /Anonymous:\s+(\d+) kB/.exec(await readFile(`/proc/${worker.pid}/smaps_rollup`, 'utf8'));
      expect(Number(anonymous?.[1])).toBeLessThan(8 * 1024);
      // Where the program took the runtime's place, the runtime starts again.
      await waitFor('an answer', async () => {
        await worker.agent.idle();
        return (await worker.agent.call({})).facts.outcome?.kind === 'Answered';
      });
    });
  });

  it.each([
    ['opens more connections than it may', 'flood', '60 connections'],
    ['asks for the next call over and over', 'next', 'one request for the next call at a time'],
  ])('that %s is ended, and says so', async (_, kind, bound) => {
    const worker = await start({ files: { 'runtime.py': runtime, 'hostile.py': await fixture('hostile.py') } });
    await worker.agent.idle();
    const fault = await waitFor('the fault', async () => {
      // A program that takes the place of the runtime may be killed with it too soon.
      await worker.exec('/usr/bin/python3', '/fixture/hostile.py', kind).catch(() => undefined);
      return worker.agent.phase?.fault;
    });
    expect(fault).toEqual({
      errorType: 'Runtime.Unknown',
      message: `the worker broke a bound of the Runtime API: ${bound}`,
      bound,
    });
    await waitFor('the end of the container', () => worker.ended());
  });

  describe('the end of a container', () => {
    it('by SIGTERM gives the runtime its grace', async () => {
      const worker = await start();
      await worker.agent.idle();
      await lab.ctr('tasks', 'kill', '--signal', 'SIGTERM', worker.id);
      await waitFor('the end of the container', () => worker.ended());
      expect(await worker.log()).toContain('runtime: SIGTERM');
    });
  });
});
