import { appendFile, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { systemClock } from '../../../../src/common/clock.ts';
import { silentLogger } from '../../../../src/common/logger.ts';
import type { ContainerStatus, DockerContainer } from '../../../../src/docker/container-service.ts';
import { DockerError } from '../../../../src/docker/docker-error.ts';
import type { LogFrame } from '../../../../src/docker/log-frames.ts';
import { EpochStore } from '../../../../src/runtime/docker/epoch-store.ts';
import { LogCopier } from '../../../../src/runtime/docker/log-copier.ts';
import { WorkerLogs } from '../../../../src/runtime/logs/worker-logs.ts';
import { waitFor } from '../../../support/wait-for.ts';

const timeOf = (index: number): string => `2026-11-26T01:43:09.${String(index).padStart(9, '0')}Z`;

/** An engine with the log of one container, whose process runs until it is told to end. */
class Engine {
  readonly lines: string[] = [];
  /** From where on each reader asked. */
  readonly asked: (string | undefined)[] = [];
  status: ContainerStatus = 'running';
  #broken = Promise.withResolvers<void>();
  #news = Promise.withResolvers<void>();

  write(...lines: readonly string[]): void {
    this.lines.push(...lines);
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  end(): void {
    this.status = 'exited';
    this.write();
  }

  /** Ends every connection. */
  break(): void {
    this.#broken.resolve();
    this.#broken = Promise.withResolvers();
  }

  inspect(): Promise<DockerContainer> {
    return Promise.resolve({ status: this.status } as DockerContainer);
  }

  async *logs(_name: string, since: string | undefined, signal: AbortSignal): AsyncGenerator<readonly LogFrame[]> {
    this.asked.push(since);
    const ended = new Promise<void>((done) => signal.addEventListener('abort', () => done(), { once: true }));
    let broken = false;
    const breaks = this.#broken.promise.then(() => {
      broken = true;
    });
    // As the engine has it: from the line of that very time on.
    let at = since === undefined ? 0 : this.lines.findIndex((_, index) => timeOf(index) >= since);
    for (;;) {
      const news = this.#news.promise;
      const frames = this.lines.slice(at).map((line, index) => ({
        time: timeOf(at + index),
        data: Buffer.from(`${line}\n`),
      }));
      at = this.lines.length;
      if (frames.length > 0) {
        yield frames;
      }
      if (this.status === 'exited') {
        return;
      }
      await Promise.race([news, ended, breaks]);
      if (signal.aborted || broken) {
        throw new DockerError('the connection broke', 'RuntimeUnavailable');
      }
    }
  }
}

describe('the copy of a log', () => {
  let folder: string;
  let engine: Engine;
  let logs: WorkerLogs;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'esb-copier-'));
    engine = new Engine();
    logs = new WorkerLogs(join(folder, 'logs'));
    await logs.prepare();
    await logs.begin('x-1', 'uid');
    onTestFinished(async () => {
      await logs.stop();
      await rm(folder, { recursive: true, force: true });
    });
  });
  const open = async (): Promise<LogCopier> => {
    const copier = new LogCopier({
      containers: engine,
      logs,
      folder: join(folder, 'copied'),
      clock: systemClock,
      logger: silentLogger(),
    });
    await copier.prepare();
    onTestFinished(() => copier.stop());
    return copier;
  };
  const log = async (): Promise<string> => (await logs.read('x-1', 0, 1_000)).toString();
  const untilLog = (text: string): Promise<unknown> => waitFor(`the log ${text}`, async () => (await log()) === text);

  it('has every line of a process once, to its end', async () => {
    const copier = await open();
    engine.write('one');
    copier.follow('x-1', 'engine-id');
    copier.follow('x-1', 'engine-id');
    await untilLog('one\n');
    engine.write('two', 'three');
    engine.end();
    await copier.drain('x-1');
    expect(await log()).toBe('one\ntwo\nthree\n');
    expect(engine.asked).toEqual([undefined]);
  });

  it('goes on after a break of the connection where it was', async () => {
    const copier = await open();
    copier.follow('x-1', 'engine-id');
    engine.write('one', 'two');
    await untilLog('one\ntwo\n');
    engine.break();
    engine.write('three');
    await untilLog('one\ntwo\nthree\n');
    expect(engine.asked).toEqual([undefined, timeOf(1)]);
  });

  it('is taken up by the next run where the last one was, however that ended', async () => {
    const first = await open();
    first.follow('x-1', 'engine-id');
    engine.write('one');
    await untilLog('one\n');
    await first.stop();
    engine.write('two');
    const second = await open();
    second.follow('x-1', 'engine-id');
    await untilLog('one\ntwo\n');
  });

  it('begins anew with another container of the same worker', async () => {
    const copier = await open();
    copier.follow('x-1', 'engine-id');
    engine.write('one');
    await untilLog('one\n');
    await copier.end('x-1');
    copier.follow('x-1', 'other-id');
    await untilLog('one\none\n');
    expect(engine.asked).toEqual([undefined, undefined]);
  });

  it('forgets where it was with the container', async () => {
    const copier = await open();
    copier.follow('x-1', 'engine-id');
    engine.write('one');
    await untilLog('one\n');
    expect(await readFile(join(folder, 'copied', 'x-1'), 'utf8')).toBe(`engine-id ${timeOf(0)}`);
    await copier.end('x-1');
    await expect(readFile(join(folder, 'copied', 'x-1'))).rejects.toThrow('ENOENT');
  });

  it('ends without a container', async () => {
    const copier = await open();
    engine.inspect = () => Promise.reject(new DockerError('no such container', 'NotFound'));
    engine.end();
    copier.follow('x-1', 'engine-id');
    await copier.drain('x-1');
    expect(await log()).toBe('');
  });
});

describe('the book of epochs', () => {
  it('keeps what was written for the next run, and forgets it with the container', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'esb-epochs-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const book = new EpochStore(join(folder, 'epochs'));
    await book.load();
    expect(book.of('x-1')).toBeUndefined();
    await book.set('x-1', 7);
    await book.set('y-1', 8);
    await appendFile(join(folder, 'epochs', 'z-1'), 'not a number');
    const next = new EpochStore(join(folder, 'epochs'));
    await next.load();
    expect([next.of('x-1'), next.of('y-1'), next.of('z-1')]).toEqual([7, 8, undefined]);
    await next.forget('x-1');
    await next.forget('x-1');
    const last = new EpochStore(join(folder, 'epochs'));
    await last.load();
    expect([last.of('x-1'), last.of('y-1')]).toEqual([undefined, 8]);
  });
});
