import { rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { DesiredWorker } from '../../../src/agent/model/desired-worker.ts';
import type { InvocationResult } from '../../../src/agent/model/invocation.ts';
import { sleep } from '../../../src/common/deadline.ts';
import { foreignCode } from '../../../src/common/error-codes.ts';
import { EsbError } from '../../../src/common/errors.ts';
import type { FakeCall } from '../../support/fake-emulator.ts';
import { desiredFixture, FleetLab } from '../../support/fleet-lab.ts';
import { settle } from '../../support/manual-clock.ts';
import { waitFor } from '../../support/wait-for.ts';

type Step =
  | { readonly kind: 'Invoke'; readonly callers: number; readonly hangUp: boolean }
  | { readonly kind: 'Answer' | 'Lose' | 'TimeOut' | 'NotSend' | 'Exit' | 'Freeze' | 'Thaw' | 'Stamp' }
  | { readonly kind: 'ExitOther' | 'FreezeOther' | 'EndLeft' }
  | { readonly kind: 'Advance'; readonly ms: number }
  | { readonly kind: 'Apply'; readonly change: Partial<DesiredWorker> }
  | {
      readonly kind: 'Fail';
      readonly operation: 'pause' | 'resume' | 'ensure' | 'destroy' | 'inspect';
      readonly afterEffect: boolean;
    }
  | { readonly kind: 'Slow'; readonly ms: number }
  | { readonly kind: 'Hang' | 'HangOther' | 'Undying' | 'Heal' | 'LoseRecord' }
  | { readonly kind: 'Stall'; readonly operation: 'destroy' | 'inspect' | 'list' | 'pause' | 'ensure' }
  | { readonly kind: 'Down' | 'Up' | 'Restart' };

/** Milliseconds after which an operation of the runtime that stalls is given up. */
const stallMs: Readonly<Record<string, number>> = {
  destroy: 61_000,
  inspect: 5_000,
  list: 15_000,
  pause: 15_000,
  ensure: 60_000,
};

const steps: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('Invoke' as const),
      callers: fc.integer({ min: 1, max: 4 }),
      hangUp: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant('Answer' as const) }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('Advance' as const),
      ms: fc.constantFrom(1, 50, 1_000, 2_500, 12_000, 35_000, 200_000),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom(
        'Lose',
        'TimeOut',
        'NotSend',
        'Exit',
        'Freeze',
        'Thaw',
        'Stamp',
        'ExitOther',
        'FreezeOther',
        'EndLeft',
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('Apply' as const),
      change: fc.record(
        {
          restingState: fc.constantFrom('Running' as const, 'Paused' as const, 'Absent' as const),
          shapeHash: fc.constantFrom('v1-a', 'v1-b', 'v1-c'),
          wakePolicy: fc.constantFrom('OnInvoke' as const, 'Never' as const),
          pauseAfterSeconds: fc.constantFrom(1, 2),
          removeAfterSeconds: fc.constantFrom(4, 60),
        },
        { requiredKeys: [] },
      ),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('Fail' as const),
      operation: fc.constantFrom('pause', 'resume', 'ensure', 'destroy', 'inspect'),
      afterEffect: fc.boolean(),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('Slow' as const), ms: fc.constantFrom(0, 20, 700) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constantFrom('Hang', 'HangOther', 'Undying', 'Heal', 'LoseRecord'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('Stall' as const),
      operation: fc.constantFrom('destroy', 'inspect', 'list', 'pause', 'ensure'),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('Down', 'Up', 'Restart') }) },
);

/** A replaced container goes once the record says so on the disk, which takes real time. */
async function untilHolds(lab: FleetLab, what: string, holds: () => boolean): Promise<void> {
  const probe = async (): Promise<boolean> => {
    await lab.clock.advance(1_000);
    lab.emulators.answerAll();
    return holds();
  };
  await waitFor(what, probe, { everyMs: 2, timeoutMs: 10_000 });
}

/** Runs steps against a worker and keeps watch over what must hold at every moment. */
class Run {
  lab: FleetLab;
  readonly violations: string[] = [];
  readonly #answered = new Map<string, number>();
  #desired = desiredFixture();
  #requests = 0;
  #stamps = 0;
  #open: Promise<unknown>[] = [];
  /** Milliseconds that each operation of the runtime takes. */
  #slowness = 0;
  #lives = 0;
  /** Operations of the runtime of which the next one stalls. */
  readonly #stalls = new Set<string>();
  #deleted = false;
  /** Calls that killed agents have left in containers, with the monotonic milliseconds until which they may take. */
  readonly #left = new Map<FakeCall, number>();
  readonly #sentAt = new Map<FakeCall, number>();
  /** Addresses of workers that somebody else has frozen while the agent could not see it, until they are thawed. */
  readonly #frozenUnseen = new Set<string>();
  /** Looks at containers that this run of the agent has begun, and that are not over. */
  #looks = 0;

  constructor(lab: FleetLab) {
    this.lab = lab;
    lab.runtime.before = (operation) => (operation === 'inspect' ? this.#look() : this.#delay(operation));
    lab.emulators.isFrozenUnseen = ({ ip }) => this.#frozenUnseen.has(ip);
    lab.emulators.onCall = (call) => this.#sentAt.set(call, lab.clock.monotonic());
    lab.runtime.onEffect = (operation, containerId) => {
      const ip = lab.runtime.containers.get(containerId)?.address?.ip;
      if (operation === 'resume' || operation === 'ensure') {
        this.#frozenUnseen.delete(ip ?? '');
      }
      const busy = this.lab.emulators.calls.some((call) => call.address.ip === ip);
      const left = [...this.#left].some(([call, until]) => call.address.ip === ip && lab.clock.monotonic() < until);
      if ((operation === 'pause' || operation === 'settle') && (busy || left)) {
        this.violations.push('frozen while a call was in it');
      }
      const runs = lab.runtime.taskOf(containerId) !== 'Stopped';
      if (operation === 'destroy' && busy && runs && !this.#deleted) {
        this.violations.push('ended while a call was in it');
      }
      if (operation === 'destroy' && left && runs) {
        this.violations.push('ended while a call was in it that an agent has left');
      }
    };
  }

  async take(step: Step): Promise<void> {
    const { lab } = this;
    const [inside] = lab.emulators.calls;
    switch (step.kind) {
      case 'Invoke':
        for (let caller = 0; caller < step.callers; caller += 1) {
          this.#invoke(step.hangUp && caller === 0);
        }
        break;
      case 'Answer':
        inside?.answer();
        break;
      case 'Lose':
        inside?.end({ kind: 'Unknown', message: 'reset' });
        break;
      case 'TimeOut':
        inside?.end({ kind: 'TimedOut' });
        break;
      case 'NotSend':
        inside?.end({ kind: 'NotSent', message: 'refused' });
        break;
      case 'Exit':
        if (this.#task() === 'Running' || this.#task() === 'Paused') {
          this.#forgetLeft(this.#serving());
          lab.runtime.exit(this.#serving(), 1);
          inside?.end({ kind: 'Unknown', message: 'reset' });
        }
        break;
      case 'Freeze':
        if (this.#task() === 'Running' && inside === undefined) {
          this.#freeze(this.#serving());
          await settle();
        }
        break;
      case 'Thaw':
        if (this.#task() === 'Paused') {
          this.#frozenUnseen.delete(lab.runtime.containers.get(this.#serving())?.address?.ip ?? '');
          lab.runtime.foreign('Running', this.#serving());
        }
        break;
      case 'ExitOther':
      case 'FreezeOther':
        for (const { containerId, task } of lab.runtime.containers.values()) {
          const alive = task.kind === 'Running' || task.kind === 'Paused';
          if (containerId !== this.#serving() && alive && !this.#isBusy(containerId)) {
            if (step.kind === 'ExitOther') {
              this.#forgetLeft(containerId);
              lab.runtime.exit(containerId, 1);
            } else {
              this.#freeze(containerId);
            }
          }
        }
        break;
      case 'EndLeft': {
        const [left] = [...this.#left].filter(([call]) => lab.emulators.left.includes(call) && this.#isThere(call));
        if (left !== undefined) {
          this.#left.delete(left[0]);
          lab.endLeft(left[0].request.requestId);
        }
        break;
      }
      case 'Stamp':
        this.#stamps += 1;
        this.#apply({ lastInvocationTime: `2031-01-01T00:00:00.00000${this.#stamps % 10}Z` }, 0);
        break;
      case 'Advance':
        await lab.clock.advance(step.ms);
        break;
      case 'Apply':
        this.#apply(step.change, 1);
        break;
      case 'Fail': {
        const error = new EsbError('it failed', { code: foreignCode('SomeFault'), retryable: true });
        lab.runtime.fail(step.operation, { error, afterEffect: step.afterEffect });
        break;
      }
      case 'Slow':
        this.#slowness = step.ms;
        break;
      case 'Down':
        lab.runtime.down = true;
        break;
      case 'Up':
        lab.runtime.down = false;
        lab.runtime.emit({ kind: 'Reconnected', containerId: '' });
        break;
      case 'Hang':
      case 'HangOther':
        for (const containerId of lab.runtime.containers.keys()) {
          if ((containerId === this.#serving()) === (step.kind === 'Hang')) {
            lab.runtime.hung.add(containerId);
          }
        }
        break;
      case 'Undying':
        for (const containerId of lab.runtime.containers.keys()) {
          lab.runtime.undying.add(containerId);
        }
        break;
      case 'Heal':
        this.#heal();
        break;
      case 'Stall':
        this.#stalls.add(step.operation);
        break;
      case 'LoseRecord':
        rmSync(join(lab.folder, 'state', 'workers', 'uid-of-hello.json'), { force: true });
        await this.#restart();
        break;
      case 'Restart':
        await this.#restart();
        break;
      default:
        step satisfies never;
    }
    await settle();
  }

  /**
   * With every fault gone, everything comes to rest: no call is left without an answer, the worker where it should be.
   */
  async end(): Promise<void> {
    const { lab } = this;
    this.#slowness = 0;
    this.#stalls.clear();
    lab.runtime.heal();
    lab.runtime.emit({ kind: 'Reconnected', containerId: '' });
    lab.emulators.onCall = (call) => call.answer();
    lab.emulators.answerAll();
    const { generation } = this.#desired;
    this.#desired = desiredFixture({ generation, restingState: 'Paused', pauseAfterSeconds: 1 });
    this.#apply({}, 1);
    for (let each = 0; each < 60; each += 1) {
      await lab.clock.advance(10_000);
      lab.emulators.answerAll();
    }
    await untilHolds(
      lab,
      'the worker to rest, and what was replaced to go',
      () => lab.runtime.containers.size === 1 && lab.ready()?.reason === 'Paused',
    );
    await Promise.all(this.#open);
    expect(lab.phase()).toBe('Paused');
    expect(this.#task()).toBe('Paused');
    expect(lab.fleet.view('uid-of-hello')?.inFlight).toBe(0);
    expect(lab.runtime.containers.size).toBe(1);
    expect(lab.fleet.setAside()).toEqual([]);
    this.#deleted = true;
    this.#apply({ deleting: true }, 0);
    await lab.clock.advance(60_000);
    await untilHolds(
      lab,
      'everything to go',
      () => lab.fleet.view('uid-of-hello')?.conditions.CleanedUp?.status === 'True',
    );
    expect(lab.runtime.containers.size).toBe(0);
    expect(lab.fleet.allocation()).toEqual({ memoryMiB: 0, workers: 0 });
    expect(lab.emulators.violations).toEqual([]);
    expect(this.violations).toEqual([]);
    expect([...this.#answered.values()].every((times) => times === 1)).toBe(true);
    expect(new Set(lab.emulators.sent).size, 'no call is sent twice').toBe(lab.emulators.sent.length);
  }

  async #delay(operation: string): Promise<void> {
    const { clock } = this.lab;
    const life = this.#lives;
    if (this.#slowness > 0 && operation !== 'list') {
      await sleep(clock, this.#slowness);
    }
    if (this.#stalls.delete(operation)) {
      await sleep(clock, stallMs[operation] ?? 0);
      if (life === this.#lives) {
        throw new EsbError('no answer in time', { code: 'DeadlineExceeded', retryable: true });
      }
    }
    if (life !== this.#lives) {
      // Begun by an agent that was killed: it never comes to anything.
      await new Promise(() => undefined);
    }
  }

  async #look(): Promise<void> {
    this.#looks += 1;
    try {
      await this.#delay('inspect');
    } finally {
      this.#looks -= 1;
    }
  }

  /** Somebody else freezes a worker. A call may come to it until that can be seen: no fault of ours. */
  #freeze(containerId: string): void {
    const { runtime } = this.lab;
    const isSeen =
      this.#slowness === 0 && this.#looks === 0 && !this.#stalls.has('inspect') && runtime.works('inspect');
    const ip = runtime.containers.get(containerId)?.address?.ip;
    if (!isSeen && ip !== undefined && runtime.taskOf(containerId) === 'Running') {
      this.#frozenUnseen.add(ip);
    }
    runtime.foreign('Paused', containerId);
  }

  /** Shims answer again, and containers can be removed. */
  #heal(): void {
    this.#stalls.clear();
    this.lab.runtime.hung.clear();
    this.lab.runtime.undying.clear();
  }

  /** Whether the container that a call is in is there. */
  #isThere({ address }: FakeCall): boolean {
    return [...this.lab.runtime.containers.values()].some((info) => info.address?.ip === address.ip);
  }

  /** The container that calls go to, as the agent shows it. */
  #serving(): string {
    return this.lab.fleet.view('uid-of-hello')?.containerId ?? '';
  }

  /** The process of a container ends, with the call in it. */
  #forgetLeft(containerId: string): void {
    const ip = this.lab.runtime.containers.get(containerId)?.address?.ip;
    for (const call of this.#left.keys()) {
      if (call.address.ip === ip) {
        this.#left.delete(call);
      }
    }
  }

  #isBusy(containerId: string): boolean {
    const ip = this.lab.runtime.containers.get(containerId)?.address?.ip;
    return this.lab.emulators.calls.some((call) => call.address.ip === ip);
  }

  #task(): string | undefined {
    return this.lab.runtime.taskOf(this.#serving());
  }

  #invoke(hangUp: boolean): void {
    this.#requests += 1;
    const requestId = `call-${this.#requests}`;
    const caller = new AbortController();
    const answered = (_result: InvocationResult): void => {
      this.#answered.set(requestId, (this.#answered.get(requestId) ?? 0) + 1);
    };
    this.#open.push(this.lab.invoke({ requestId, signal: caller.signal }).then(answered));
    if (hangUp) {
      caller.abort();
    }
  }

  #apply(change: Partial<DesiredWorker>, generations: number): void {
    this.#desired = { ...this.#desired, ...change, generation: this.#desired.generation + generations };
    this.lab.fleet.apply(this.#desired);
  }

  async #restart(): Promise<void> {
    // A dead agent never answers its open calls.
    this.#open = [];
    for (const call of this.lab.emulators.calls) {
      this.#left.set(call, (this.#sentAt.get(call) ?? 0) + call.request.timeoutMs);
    }
    this.#lives += 1;
    this.#looks = 0;
    // A start waits for its list, and the clock stands.
    this.#stalls.delete('list');
    const task = this.#task();
    const resumed = this.lab.runtime.count('resume');
    this.lab = await this.lab.restart();
    if (task === 'Paused' && this.#desired.restingState !== 'Running') {
      if (this.lab.runtime.count('resume') !== resumed) {
        this.violations.push('woken by a restart of the agent');
      }
    }
    this.lab.fleet.apply(this.#desired);
  }
}

describe('a worker under any events', () => {
  it('never has two calls at once, is never frozen while busy, answers each call once, and comes to rest', {
    tags: ['P11'],
    timeout: 120_000,
  }, async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(steps, { minLength: 1, maxLength: 30 }), async (sequence) => {
        const run = new Run(await FleetLab.with(desiredFixture()));
        for (const step of sequence) {
          await run.take(step);
        }
        await run.end();
      }),
      { numRuns: 60 },
    );
  });
});
