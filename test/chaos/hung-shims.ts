import { setTimeout as delay } from 'node:timers/promises';
import { isRunning, type ProcessIdentity } from '../../local/common/process-table.ts';
import { unreachable } from '../../src/common/errors.ts';
import type { DoneFault } from './faults.ts';

const LOOK_EVERY_MS = 250;
/** Milliseconds within which a shim that hangs is gone with its worker's process. */
const GONE_WITHIN_MS = 120_000;
/** Patience that an agent has with a shim. A new agent, and a containerd that answers again, restart it. */
const PATIENCE_MS = 30_000;

/** A shim that was stopped, and that is not continued. */
export interface HungShim {
  readonly worker: string;
  readonly node: string;
  readonly shim: ProcessIdentity;
  /** First process of the worker's container. */
  readonly process: ProcessIdentity;
  readonly done: DoneFault;
}

/** Watches shims that were stopped for good until they are gone, each with its worker's process. */
export class HungShims {
  readonly #note: (text: string) => void;
  readonly #all: HungShim[] = [];
  readonly #watches = new Set<Promise<void>>();
  readonly #closing = new AbortController();

  constructor(note: (text: string) => void) {
    this.#note = note;
  }

  add(hung: HungShim): void {
    this.#all.push(hung);
    const watch = this.#watch(hung).catch((error: unknown) => this.#note(String(error)));
    this.#watches.add(watch);
    void watch.finally(() => this.#watches.delete(watch));
  }

  /** Whether that very process was stopped for good. */
  has({ pid, startTicks }: ProcessIdentity): boolean {
    return this.#all.some(({ shim }) => shim.pid === pid && shim.startTicks === startTicks);
  }

  /** Shims that are still there. */
  left(): readonly string[] {
    return this.#all
      .filter(({ done }) => done.to === Number.POSITIVE_INFINITY)
      .map(({ worker, node, shim }) => `the stopped shim of ${worker} on ${node} is there: process ${shim.pid}`);
  }

  /** Shims that were there for longer than they may. */
  verdicts(done: readonly DoneFault[]): readonly string[] {
    return this.#all.flatMap((hung) => {
      const tookMs = Math.min(hung.done.to, performance.now()) - hung.done.from;
      const allowedMs = allowedHang(hung, done);
      return tookMs <= allowedMs
        ? []
        : [`the stopped shim of ${hung.worker} was there for ${Math.round(tookMs)} ms, allowed are ${allowedMs} ms`];
    });
  }

  summary(): string {
    const took = this.#all.map(({ done }) => Math.round((done.to - done.from) / 1_000));
    return `${took.length} shims stopped for good, gone after ${took.join(', ') || '–'} s`;
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#watches);
  }

  async #watch({ worker, shim, process, done }: HungShim): Promise<void> {
    const { signal } = this.#closing;
    while ((await isRunning(shim)) || (await isRunning(process))) {
      await delay(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
      if (signal.aborted) {
        return;
      }
    }
    done.to = performance.now();
    this.#note(`the stopped shim of ${worker} is gone after ${Math.round(done.to - done.from)} ms`);
  }
}

/**
 * How many milliseconds a stopped shim may be there. The time in which its agent or its containerd was away does not
 * count, nor does the patience that begins again after that.
 */
export function allowedHang(
  { node, done: { from, to } }: Pick<HungShim, 'node' | 'done'>,
  done: readonly DoneFault[],
): number {
  return done
    .filter((other) => hinders(other, node) && other.from <= to && other.to + PATIENCE_MS >= from)
    .reduce((sum, other) => sum + Math.round(other.to - other.from) + PATIENCE_MS, GONE_WITHIN_MS);
}

/** Whether an agent can do less about the shims of its node meanwhile. */
function hinders({ fault }: DoneFault, node: string): boolean {
  switch (fault.kind) {
    case 'kill':
    case 'stop':
      return (fault.target.kind === 'agent' || fault.target.kind === 'containerd') && fault.target.node === node;
    case 'disk':
    case 'outage':
      return fault.node === node;
    case 'init':
      // Which node that agent had is not told.
      return fault.how === 'with-agent';
    case 'plugin':
    case 'clock':
    case 'hang':
      return false;
    default:
      return unreachable(fault);
  }
}
