import { describe, expect, it } from 'vitest';
import { silentLogger } from '../../../../src/common/logger.ts';
import { ContainerdError } from '../../../../src/containerd/containerd-error.ts';
import type { PullRequest, TransferService } from '../../../../src/containerd/transfer-service.ts';
import { parseImageReference } from '../../../../src/oci/image-reference.ts';
import { ImagePulls } from '../../../../src/runtime/images/image-pulls.ts';
import { type ManualClock, manualClock, settle } from '../../../support/manual-clock.ts';

const hello = parseImageReference('registry.example/hello:1');
const other = parseImageReference('registry.example/other:1');

interface UnderWay {
  readonly request: PullRequest;
  readonly done: PromiseWithResolvers<void>;
  readonly signal: AbortSignal;
}

/** A registry whose pulls end when a test says so. */
class Registry implements TransferService {
  readonly pulls: UnderWay[] = [];

  async pull(request: PullRequest, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<void> {
    const done = Promise.withResolvers<void>();
    const given = signal ?? new AbortController().signal;
    given.addEventListener('abort', () => done.reject(given.reason as Error));
    this.pulls.push({ request, done, signal: given });
    await done.promise;
  }

  describe(): Promise<void> {
    return Promise.reject(new Error('nothing is asked for without its layers here'));
  }

  get last(): UnderWay {
    const last = this.pulls.at(-1);
    if (last === undefined) {
      throw new Error('nothing was pulled');
    }
    return last;
  }
}

function setUp(maxPulls?: number): {
  clock: ManualClock;
  registry: Registry;
  pulls: ImagePulls;
  finished: string[];
} {
  const clock = manualClock();
  const registry = new Registry();
  const finished: string[] = [];
  const pulls = new ImagePulls({
    transfer: registry,
    platform: { os: 'linux', architecture: 'amd64' },
    snapshotter: 'overlayfs',
    maxPulls,
    clock,
    logger: silentLogger(),
    observer: {
      pullBegan: () => finished.push('began'),
      pullEnded: (_durationMs, outcome) => finished.push(outcome),
    },
  });
  return { clock, registry, pulls, finished };
}

const refused = (): ContainerdError =>
  new ContainerdError('dial tcp 10.0.0.1:443: connect: connection refused', 'ContainerdFailed');

describe('pulls', () => {
  it('of one image are one, told of to all who wait for it', async () => {
    const { registry, pulls, finished } = setUp();
    const told: string[][] = [[], [], []];
    const all = told.map((lines) => pulls.run(hello, [], { onDetail: (line) => lines.push(line) }));
    await settle();
    expect(registry.pulls).toHaveLength(1);
    registry.last.request.onProgress?.({ event: 'downloading', name: 'l', done: 2 ** 20, total: 2 ** 22 });
    expect(told).toEqual([['1.0 of 4.0 MiB (25 %)'], ['1.0 of 4.0 MiB (25 %)'], ['1.0 of 4.0 MiB (25 %)']]);
    const late: string[] = [];
    const joined = pulls.run(hello, [], { onDetail: (line) => late.push(line) });
    expect(late).toEqual(['1.0 of 4.0 MiB (25 %)']);
    registry.last.done.resolve();
    await Promise.all([...all, joined]);
    expect(finished).toEqual(['began', 'ok']);
  });

  it('with other credentials are each their own', async () => {
    const { registry, pulls } = setUp();
    const first = pulls.run(hello, ['{"auths":{"a":{}}}'], {});
    const second = pulls.run(hello, ['{"auths":{"b":{}}}'], {});
    await settle();
    registry.last.done.resolve();
    await first;
    await settle();
    expect(registry.pulls).toHaveLength(2);
    registry.last.done.resolve();
    await second;
  });

  it('tell how far they are every ten seconds at most', async () => {
    const { clock, registry, pulls } = setUp();
    const told: string[] = [];
    const pull = pulls.run(hello, [], { onDetail: (line) => told.push(line) });
    await settle();
    for (let done = 1; done <= 21; done += 1) {
      registry.last.request.onProgress?.({
        event: 'downloading',
        name: 'l',
        done: done * 2 ** 20,
        total: 2 ** 25,
      });
      await clock.advance(1_000);
    }
    expect(told.map((line) => line.slice(0, 4))).toEqual(['1.0 ', '11.0', '21.0']);
    registry.last.done.resolve();
    await pull;
  });

  it('of a registry that is slow stop none of another', async () => {
    const { registry, pulls } = setUp(3);
    const image = (name: string) => parseImageReference(name);
    const all = Array.from({ length: 6 }, (_, index) =>
      pulls.run(image(`slow.example/i${index}:1`), [], { namespace: 'mallory' }),
    );
    await settle();
    expect(registry.pulls).toHaveLength(3);
    all.push(pulls.run(hello, [], { namespace: 'shop' }));
    await settle();
    expect(registry.last.request.reference).toBe(hello.name);
    for (const each of all) {
      each.catch(() => undefined);
    }
    await pulls.stop();
  });

  it('of many registries that one namespace names leave room for others', async () => {
    const { registry, pulls } = setUp(3);
    const all = Array.from({ length: 40 }, (_, index) =>
      pulls.run(parseImageReference(`r${index}.example/i:1`), [], { namespace: 'mallory' }),
    );
    await settle();
    expect(registry.pulls).toHaveLength(6);
    all.push(pulls.run(hello, [], { namespace: 'shop' }));
    await settle();
    expect(registry.last.request.reference).toBe(hello.name);
    for (const each of all) {
      each.catch(() => undefined);
    }
    await pulls.stop();
  });

  it('beyond the bound wait for their turn and say so', async () => {
    const { registry, pulls } = setUp(1);
    const first = pulls.run(hello, [], {});
    await settle();
    const told: string[] = [];
    const second = pulls.run(other, [], { onDetail: (line) => told.push(line) });
    await settle();
    expect(told).toEqual(['waits for its turn, others are being pulled']);
    expect(registry.pulls).toHaveLength(1);
    registry.last.done.resolve();
    await first;
    await settle();
    expect(registry.last.request.reference).toBe(other.name);
    registry.last.done.resolve();
    await second;
  });

  it('that failed leave the registry alone for longer and longer, and say what it said', async () => {
    const { clock, registry, pulls } = setUp();
    const attempt = async (): Promise<number> => {
      const before = registry.pulls.length;
      const pull = pulls.run(hello, [], {});
      const checked = expect(pull).rejects.toMatchObject({ code: 'RegistryUnreachable', retryable: true });
      await settle();
      if (registry.pulls.length > before) {
        registry.last.done.reject(refused());
      }
      await checked;
      return registry.pulls.length - before;
    };
    const pauses: number[] = [];
    for (let failures = 0; failures < 7; failures += 1) {
      expect(await attempt()).toBe(1);
      let pauseMs = 0;
      while ((await attempt()) === 0) {
        await clock.advance(500);
        pauseMs += 500;
      }
      pauses.push(pauseMs);
      // That attempt was a real one: the next pause has begun.
      await clock.advance(60_000);
    }
    expect(pauses.slice(0, 3)).toEqual([1_500, 6_000, 24_000]);
    expect(Math.max(...pauses)).toBe(45_000);
  });

  it('after a failure are tried at once with other credentials, and forget it after a success', async () => {
    const { clock, registry, pulls } = setUp();
    const failed = pulls.run(hello, [], {});
    const checked = expect(failed).rejects.toMatchObject({ code: 'RegistryUnreachable' });
    await settle();
    registry.last.done.reject(refused());
    await checked;
    const mended = pulls.run(hello, ['{}'], {});
    await settle();
    expect(registry.pulls).toHaveLength(2);
    registry.last.done.resolve();
    await mended;

    await clock.advance(1_500);
    for (let time = 0; time < 2; time += 1) {
      const pull = pulls.run(hello, [], {});
      await settle();
      registry.last.done.resolve();
      await pull;
    }
    expect(registry.pulls).toHaveLength(4);
  });

  it('that a full disk ends are not the fault of the registry', async () => {
    const { registry, pulls, finished } = setUp();
    for (let time = 0; time < 2; time += 1) {
      const pull = pulls.run(hello, [], {});
      const checked = expect(pull).rejects.toMatchObject({ code: 'DiskFull' });
      await settle();
      registry.last.done.reject(new ContainerdError('no space left on device', 'DiskFull'));
      await checked;
    }
    expect(registry.pulls).toHaveLength(2);
    expect(finished).toEqual(['began', 'DiskFull', 'began', 'DiskFull']);
  });

  it('in which nothing moves for five minutes are given up', async () => {
    const { clock, registry, pulls } = setUp();
    const pull = pulls.run(hello, [], {});
    const checked = expect(pull).rejects.toMatchObject({
      code: 'RegistryUnreachable',
      message: expect.stringContaining('5 minutes') as string,
    });
    await settle();
    const tell = (done: number): void =>
      registry.last.request.onProgress?.({ event: 'downloading', name: 'l', done, total: 9 });
    await clock.advance(299_000);
    tell(1);
    await clock.advance(299_000);
    expect(registry.last.signal.aborted).toBe(false);
    tell(1);
    await clock.advance(2_000);
    await checked;
  });

  it('that nobody waits for any more are ended', async () => {
    const { registry, pulls } = setUp();
    const caller = new AbortController();
    const pull = pulls.run(hello, [], { signal: caller.signal });
    const checked = expect(pull).rejects.toMatchObject({ code: 'Aborted' });
    await settle();
    caller.abort();
    await checked;
    expect(registry.last.signal.aborted).toBe(true);
  });
});
