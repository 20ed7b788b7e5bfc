import type { Clock } from '../../common/clock.ts';
import { sleep } from '../../common/deadline.ts';
import type { WorkerInfo } from '../../runtime/contract/runtime.ts';
import type { FoundMark } from '../model/marked-call.ts';
import type { ContainerClaims } from './claims.ts';
import type { Worker } from './worker.ts';

/** The workers of a node, and what was found of workers that are not known yet. */
export class WorkerRegistry {
  readonly workers = new Map<string, Worker>();
  readonly #claims: ContainerClaims;
  /** Containers that were there before any resource was known to claim them, by uid. */
  readonly #orphans = new Map<string, readonly WorkerInfo[]>();
  /** Containers of unknown workers, as the last list had them, with the uids. */
  readonly #unclaimed = new Map<string, string>();
  /** Calls in flight by the marks that the agent found at its start, by uid of unknown workers. */
  readonly #marks = new Map<string, FoundMark>();

  constructor(claims: ContainerClaims) {
    this.#claims = claims;
  }

  get all(): readonly Worker[] {
    return [...this.workers.values()];
  }

  /** The calls that are in workers; each settles when its caller is told. */
  get currentCalls(): ReadonlySet<Promise<unknown>> {
    return new Set(this.all.flatMap(({ currentCalls }) => currentCalls));
  }

  add(worker: Worker): Worker {
    this.workers.set(worker.uid, worker);
    return worker;
  }

  /** The worker that has a container; undefined for none. */
  ofContainer(containerId: string): Worker | undefined {
    const uid = this.#claims.ownerOf(containerId);
    return uid === undefined ? undefined : this.workers.get(uid);
  }

  /** Containers that workers may have, by uid. */
  byUid(containers: readonly WorkerInfo[]): Map<string, readonly WorkerInfo[]> {
    return Map.groupBy(
      containers.filter(({ containerId }) => !this.#claims.isSetAside(containerId)),
      ({ identity }) => identity.uid,
    );
  }

  /** The containers of an unknown worker, which becomes known now; undefined where none were found. */
  takeOrphans(uid: string): readonly WorkerInfo[] | undefined {
    const orphans = this.#orphans.get(uid);
    this.#orphans.delete(uid);
    return orphans;
  }

  get orphans(): number {
    return this.#orphans.size;
  }

  /** Keeps the containers of unknown workers, which are theirs once their resources are known. */
  keepOrphans(byUid: Iterable<readonly [string, readonly WorkerInfo[]]>): void {
    for (const [uid, infos] of byUid) {
      if (!this.workers.has(uid)) {
        this.#orphans.set(uid, infos);
      }
    }
  }

  takeMark(uid: string): FoundMark | undefined {
    const mark = this.#marks.get(uid);
    this.#marks.delete(uid);
    return mark;
  }

  keepMark(mark: FoundMark): void {
    this.#marks.set(mark.uid, mark);
  }

  /** Takes note of containers of unknown workers. */
  noteUnclaimed(byUid: Iterable<readonly [string, readonly WorkerInfo[]]>): void {
    this.#unclaimed.clear();
    for (const [uid, infos] of byUid) {
      for (const { containerId } of this.workers.has(uid) ? [] : infos) {
        this.#unclaimed.set(containerId, uid);
      }
    }
  }

  removed(containerId: string): void {
    this.#unclaimed.delete(containerId);
  }

  /** Uids of unknown workers that had a container at the last look which no worker has claimed since. */
  get unclaimed(): ReadonlySet<string> {
    return new Set([...this.#unclaimed].flatMap(([containerId, uid]) => (this.#claims.has(containerId) ? [] : [uid])));
  }
}

/** Waits for the end of all calls, and not longer than that. */
export async function atMost(ms: number, calls: ReadonlySet<Promise<unknown>>, clock: Clock): Promise<void> {
  if (ms <= 0 || calls.size === 0) {
    return;
  }
  const over = new AbortController();
  const timeOut = sleep(clock, ms, over.signal).catch(() => undefined);
  await Promise.race([Promise.all(calls), timeOut]);
  over.abort();
}
