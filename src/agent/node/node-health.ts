import { no, type Verdict, yes } from '../../api/condition.ts';
import type { Clock } from '../../common/clock.ts';
import { sleepUnlessHurried } from '../../common/deadline.ts';
import { EsbError, messageOf } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import type { LeavingWorker } from '../worker/node-fleet.ts';

/** Milliseconds between two looks. */
const lookEveryMs = 5_000;
const lookDeadlineMs = 4_000;
/** Names in one message. */
const maxNames = 5;

/** Reasons of the conditions of a node, beside those of the health of its parts. */
export type NodeReason =
  | 'CallsRunning'
  | 'Left'
  | 'NothingLeft'
  | 'Prepared'
  | 'Ready'
  | 'RoomLeft'
  | 'Serving'
  | 'Steady';

type ConditionType =
  | 'Ready'
  | 'ContainerdReady'
  | 'NetworkReady'
  | 'DiskReady'
  | 'ClockStable'
  | 'Clean'
  | 'MovesDone'
  | 'Retired';

type NodeVerdict = Verdict<NodeReason | Extract<Health, { readonly ok: false }>['reason']>;

/** Verdicts on the node, Ready first. */
export type NodeVerdicts = { readonly [Type in ConditionType]?: NodeVerdict } & { readonly Ready: NodeVerdict };

interface NodeHealthOptions {
  readonly runtime: Pick<ContainerRuntime, 'health' | 'networkHealth' | 'subscribe'>;
  readonly disk: () => Promise<Health>;
  /** Workers that left this node while a call is in them. */
  readonly leaving: () => readonly LeavingWorker[];
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Keeps the conditions of the node: looks every five seconds, and after each reconnection of the runtime. Each
 * condition recovers by itself when its cause is gone.
 */
export class NodeHealth {
  readonly #options: NodeHealthOptions;
  readonly #clockWatch: ClockWatch;
  readonly #listeners = new Set<() => void>();
  readonly #notes = new Map<string, Exclude<Health, { ok: true }>>();
  readonly #slow = new Set<string>();
  #containerd: Health = { ok: false, reason: 'Starting', message: 'the container runtime has not been asked yet' };
  #network: Health = { ok: false, reason: 'Starting', message: 'the network has not been looked at yet' };
  #disk: Health = { ok: true };
  #roomAt: number | undefined;
  #clockHealth: Health = { ok: true };
  #leftovers: Health = { ok: true };
  #retirement: Health | undefined;
  #moves: NodeVerdict | undefined;
  #containerdVersion: string | undefined;
  #wake: AbortController | undefined;

  constructor(options: NodeHealthOptions) {
    this.#options = options;
    this.#clockWatch = new ClockWatch(options.clock);
  }

  get containerdVersion(): string | undefined {
    return this.#containerdVersion;
  }

  /** Wall clock milliseconds at which the last look began that found room on the disk; undefined before one did. */
  get diskRoomAt(): number | undefined {
    return this.#roomAt;
  }

  /** Notes another reason why the node is not ready, such as its start; `ok` removes the note. */
  note(what: string, health: Health): void {
    const before = this.#notes.get(what);
    if (health.ok) {
      this.#notes.delete(what);
    } else {
      this.#notes.set(what, health);
    }
    if (before?.message !== (health.ok ? undefined : health.message)) {
      this.#tell();
    }
  }

  /** Notes whether the leftovers of workers could be removed. */
  leftovers(health: Health): void {
    const before = this.#leftovers;
    this.#leftovers = health;
    this.#tellIfOther(before, health);
  }

  /** Notes the progress of the node's retirement; undefined takes it back. */
  retirement(health: Health | undefined): void {
    const before = this.#retirement;
    this.#retirement = health;
    this.#tellIfOther(before, health);
  }

  /** Calls `listener` after each change of a condition. */
  subscribe(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Verdict of every condition of the node, Ready first. */
  conditions(): NodeVerdicts {
    const retirement = this.#retirement;
    return {
      Ready:
        retirement?.ok === true
          ? yes<NodeReason>('Left', 'ESB has left the node, as its spec wishes')
          : verdictOn(this.ready(), 'Ready', 'workers are served'),
      ContainerdReady: verdictOn(this.#containerd, 'Serving', 'the container runtime answers'),
      NetworkReady: verdictOn(this.#network, 'Prepared', 'workers can be attached'),
      DiskReady: verdictOn(this.#disk, 'RoomLeft', 'the state folder can be written'),
      // A step of the clock is shown; workers are served all the same.
      ClockStable: verdictOn(this.#clockHealth, 'Steady', 'the wall clock has not stepped lately'),
      // Leftovers do not make the node unready either, as long as there is room.
      Clean: verdictOn(this.#leftovers, 'NothingLeft', 'workers left nothing that stays'),
      ...(this.#moves === undefined ? {} : { MovesDone: this.#moves }),
      ...(retirement && { Retired: verdictOn(retirement, 'Left', 'nothing of ESB is left on the node') }),
    };
  }

  /** Whether workers can be served, and the reason when not. */
  ready(): Health {
    return this.#fault() ?? { ok: true };
  }

  /** The first thing that keeps the node from being ready. */
  #fault(): Exclude<Health, { readonly ok: true }> | undefined {
    const parts = [this.#containerd, this.#network, this.#disk];
    return [...this.#notes.values()][0] ?? parts.find((part) => !part.ok);
  }

  async run(signal: AbortSignal): Promise<void> {
    const unsubscribe = this.#options.runtime.subscribe((event) => {
      if (event.kind === 'Reconnected') {
        this.#wake?.abort();
      }
    });
    try {
      while (!signal.aborted) {
        await this.look(signal);
        this.#wake = new AbortController();
        await sleepUnlessHurried(this.#options.clock, lookEveryMs, signal, this.#wake.signal);
      }
    } finally {
      unsubscribe();
    }
  }

  async look(signal?: AbortSignal): Promise<void> {
    const before = this.conditions();
    const options = { signal, deadlineMs: lookDeadlineMs };
    const { clock, runtime, disk } = this.#options;
    const at = clock.now();
    const [containerd, network, room] = await Promise.all([
      asked(runtime.health(options)),
      asked(runtime.networkHealth(options)),
      asked(disk()),
    ]);
    if (signal?.aborted === true) {
      return;
    }
    this.#containerd = this.#settled('containerd', this.#containerd, containerd);
    this.#network = this.#settled('network', this.#network, network);
    this.#disk = room;
    this.#roomAt = room.ok ? at : this.#roomAt;
    this.#clockHealth = this.#clockWatch.check();
    this.#moves = movesDone(this.#options.leaving());
    if (containerd.ok && 'version' in containerd) {
      this.#containerdVersion = containerd.version;
    }
    this.#tellIfOther(before, this.conditions());
  }

  /** A look that timed out on a busy machine says little: only the second in a row counts. */
  #settled(part: string, before: Health, now: Health): Health {
    const slow = !now.ok && now.reason === 'DeadlineExceeded';
    const repeated = slow && this.#slow.has(part);
    if (slow) {
      this.#slow.add(part);
    } else {
      this.#slow.delete(part);
    }
    return slow && !repeated && before.ok ? before : now;
  }

  #tellIfOther(before: unknown, now: unknown): void {
    if (JSON.stringify(now) !== JSON.stringify(before)) {
      this.#tell();
    }
  }

  #tell(): void {
    const ready = this.ready();
    this.#options.logger.info(
      ready.ok ? { ready: true } : { ready: false, reason: ready.reason, detail: ready.message },
      'condition of the node changed',
    );
    for (const listener of this.#listeners) {
      listener();
    }
  }
}

/** Milliseconds by which the wall clock may drift between two looks: the rate at which time daemons slew. */
const toleranceMs = 2_000;
/** Milliseconds for which a step is shown. */
const shownMs = 60_000;

/** Reports steps of the wall clock to people. Durations are measured on a clock that does not step. */
export class ClockWatch {
  readonly #clock: Clock;
  #offset: number;
  #step: { readonly at: number; readonly byMs: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#offset = clock.now() - clock.monotonic();
  }

  /** Compares both clocks; call it every few seconds. */
  check(): Health {
    const monotonic = this.#clock.monotonic();
    const offset = this.#clock.now() - monotonic;
    const byMs = offset - this.#offset;
    // Slow drift does not matter: each look starts from the one before.
    this.#offset = offset;
    if (Math.abs(byMs) > toleranceMs) {
      this.#step = { at: monotonic, byMs };
    }
    if (this.#step === undefined || monotonic - this.#step.at > shownMs) {
      return { ok: true };
    }
    const seconds = (this.#step.byMs / 1000).toFixed(0);
    const message = `the wall clock stepped by ${this.#step.byMs > 0 ? '+' : ''}${seconds} s; stamps may be off, durations are not`;
    return { ok: false, reason: 'ClockStepped', message };
  }
}

/** Undefined while no worker leaves. */
function movesDone(leaving: readonly LeavingWorker[]): NodeVerdict | undefined {
  if (leaving.length === 0) {
    return undefined;
  }
  const names = leaving.map(({ identity }) => `${identity.namespace}/${identity.name}`).toSorted();
  const more = names.length > maxNames ? ` and ${names.length - maxNames} more` : '';
  const until = new Date(Math.max(...leaving.map(({ callUntil }) => callUntil))).toISOString();
  const shown = names.slice(0, maxNames).join(', ');
  return no(
    'CallsRunning',
    `calls end here, until ${until} at the latest, of workers that are no longer this node's: ${shown}${more}`,
  );
}

async function asked<T extends Health>(answer: Promise<T>): Promise<T | Exclude<Health, { ok: true }>> {
  try {
    return await answer;
  } catch (error) {
    return { ok: false, reason: error instanceof EsbError ? error.code : 'CheckFailed', message: messageOf(error) };
  }
}

function verdictOn(health: Health, reason: NodeReason, message: string): NodeVerdict {
  return health.ok ? { ...yes(reason, message), ...health.warning } : no(health.reason, health.message);
}
