import { readdir } from 'node:fs/promises';
import type { OrphanVeths } from '../../cni/gc/orphan-veths.ts';
import type { Clock } from '../../common/clock.ts';
import type { CallOptions } from '../../common/deadline.ts';
import { EsbError, messageOf, undefinedIfNoFile } from '../../common/errors.ts';
import type { Health } from '../../common/health.ts';
import type { Logger } from '../../common/logger.ts';
import { repeat } from '../../common/repeat.ts';
import type { ContainerRuntime } from '../../runtime/contract/runtime.ts';
import { MARK_SUFFIX } from '../invoke/in-flight-marker.ts';
import { audit, type HostState, type Leftover, Sightings } from '../model/leftovers.ts';
import type { NodeFleet } from '../worker/node-fleet.ts';
import { RECORD_SUFFIX } from '../worker/record-store.ts';
import type { NetworkGarbageCollector } from './network-gc.ts';

/** Milliseconds for which something has to be left over before it is removed, where looks are not more frequent. */
const minAgeMs = 60_000;
/** An interface is there for as long as its plugin takes until anything tells of it; making one ends after 20 s. */
const minPortAgeMs = 60_000;
/** Longest that one repair waits: a task that does not end, a plugin that hangs. */
const repairDeadlineMs = 60_000;
/** Repairs done in one look. A machine that was restarted leaves a thousand of everything, and calls come first. */
const maxRepairs = 200;
/** Failures that are named in the condition of the node. */
const maxNamed = 5;

/** Kinds in metrics: those of the audit, what the network finds by itself, and containers, which the fleet sweeps. */
export const leftoverKinds = [
  'task',
  'container',
  'snapshot',
  'lease',
  'cgroup',
  'shim',
  'shim_socket',
  'runc_state',
  'mount',
  'init',
  'tmp',
  'mark',
  'record',
  'log',
  'veth',
  'attachment',
  'network_namespace',
  'address',
] as const;

export type CountedKind = (typeof leftoverKinds)[number];

export interface GarbageMetrics {
  /** Something that should not be there was found, for the second time. */
  leftoverFound(kind: CountedKind): void;
  leftoverRemoved(kind: CountedKind): void;
  leftoverFailed(kind: CountedKind): void;
  /** @param ok whether everything could be looked at */
  audited(durationMs: number, ok: boolean): void;
}

interface GarbageCollectorOptions {
  readonly runtime: Pick<ContainerRuntime, 'inventory' | 'clear'>;
  readonly fleet: Pick<NodeFleet, 'known' | 'discard'>;
  readonly network: Pick<NetworkGarbageCollector, 'look'>;
  readonly ports: Pick<OrphanVeths, 'read' | 'remove'>;
  readonly recordsFolder: string;
  readonly marksFolder: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly metrics: GarbageMetrics;
  /** Told after each look whether something could not be removed. */
  readonly onHealth: (health: Health) => void;
  /** Milliseconds between two looks. */
  readonly periodMs: number;
}

/**
 * Removes leftovers of workers. Each audit compares the node with the known workers. The owner removes a leftover that
 * two audits found, far enough apart: things of a container by the runner of that container, where nothing is being
 * made meanwhile, files of a worker by the fleet, the rest by the network. A leftover that cannot be removed is tried
 * again at the next audit and shown on the node.
 */
export class GarbageCollector {
  readonly #options: GarbageCollectorOptions;
  readonly #sightings: Sightings;
  /** Containers that the fleet could not remove, and why. */
  readonly #orphans = new Map<string, string>();

  constructor(options: GarbageCollectorOptions) {
    this.#options = options;
    const ageMs = Math.min(minAgeMs, options.periodMs);
    this.#sightings = new Sightings(({ owner }) => (owner === 'Network' ? minPortAgeMs : ageMs));
  }

  async run(signal: AbortSignal): Promise<void> {
    const { clock, logger, periodMs } = this.#options;
    const onError = (error: unknown): void =>
      logger.debug({ err: error }, 'the node could not be audited; trying again later');
    await repeat({ clock, everyMs: periodMs, onError }, signal, () => this.look({ signal }));
  }

  /** To be told what came of a container that no resource claims. Shown from the next look on. */
  orphan(outcome: 'found' | 'removed' | 'failed', containerId: string, why = 'unknown'): void {
    if (outcome === 'failed') {
      this.#orphans.set(containerId, why);
    } else {
      this.#orphans.delete(containerId);
    }
  }

  /**
   * Looks once and removes what is due.
   *
   * @throws {EsbError} when the node cannot be looked at; nothing was removed then
   */
  async look(options: CallOptions = {}): Promise<void> {
    const { clock, metrics } = this.#options;
    const begun = clock.monotonic();
    let seen = false;
    try {
      const found = await this.#find(options);
      seen = true;
      const due = this.#sightings.due(found, clock.monotonic());
      const failures = [
        ...[...this.#orphans].map(([containerId, why]) => `container ${containerId}: ${why}`),
        ...(await this.#repairAll(due, options)),
        ...(await this.#repairNetwork(options)),
      ];
      this.#options.onHealth(healthOf(failures));
    } finally {
      metrics.audited(clock.monotonic() - begun, seen);
    }
  }

  async #find(options: CallOptions): Promise<readonly Leftover[]> {
    const { runtime, fleet, ports, recordsFolder, marksFolder } = this.#options;
    const before = fleet.known();
    // Files before containers: a container that goes meanwhile takes its files along.
    const [marks, records] = await Promise.all([names(marksFolder, MARK_SUFFIX), names(recordsFolder, RECORD_SUFFIX)]);
    const [inventory, network] = await Promise.all([
      runtime.inventory(before.containerIds, options),
      ports.read(options),
    ]);
    const host: HostState = { inventory, marks, records, ports: network.ports };
    const after = fleet.known();
    for (const containerId of this.#orphans.keys()) {
      if (!inventory.containers.has(containerId) || after.containerIds.has(containerId)) {
        this.#orphans.delete(containerId);
      }
    }
    return audit(host, { uids: new Set([...before.uids, ...after.uids]), interfaces: network.claimed });
  }

  /** Returns what could not be removed, one message each. */
  async #repairAll(due: readonly Leftover[], options: CallOptions): Promise<string[]> {
    const { logger, metrics } = this.#options;
    const failures: string[] = [];
    const now = due.slice(0, maxRepairs);
    for (const { kind } of now) {
      metrics.leftoverFound(kind);
    }
    // One repair removes everything of one container, or of one worker.
    for (const group of Map.groupBy(now, ({ name, owner }) => `${owner} ${name}`).values()) {
      const [first] = group;
      if (first === undefined || isOver(options)) {
        break;
      }
      const kinds = group.map(({ kind }) => kind);
      try {
        const removed = await this.#repair(first, options);
        logger.warn({ owner: first.owner, name: first.name, kinds, removed }, 'leftovers removed');
        for (const kind of removed ? kinds : []) {
          metrics.leftoverRemoved(kind);
        }
      } catch (error) {
        if (isOver(options)) {
          throw error;
        }
        logger.error({ owner: first.owner, name: first.name, kinds, err: error }, 'leftovers stay');
        for (const kind of kinds) {
          metrics.leftoverFailed(kind);
        }
        failures.push(`${kinds.join(', ')} of ${first.name}: ${messageOf(error)}`);
      }
    }
    return failures;
  }

  /** Whether it was still there to be removed. */
  async #repair({ owner, name }: Leftover, options: CallOptions): Promise<boolean> {
    const { runtime, fleet, ports } = this.#options;
    switch (owner) {
      case 'Container':
        return await runtime.clear(name, {
          ...options,
          deadlineMs: repairDeadlineMs,
          keepLog: fleet.known().containerIds.has(name),
        });
      case 'Worker':
        return await fleet.discard(name);
      case 'Network':
        return await ports.remove(name, options);
    }
  }

  /** The network compares and removes in one go, and tells what it removed. */
  async #repairNetwork(options: CallOptions): Promise<string[]> {
    const { network, metrics, logger } = this.#options;
    try {
      for (const name of await network.look(options)) {
        const kind = networkKindOf(name);
        metrics.leftoverFound(kind);
        metrics.leftoverRemoved(kind);
      }
      return [];
    } catch (error) {
      if (isOver(options)) {
        throw error;
      }
      logger.error({ err: error }, 'leftovers of the network stay');
      metrics.leftoverFailed('attachment');
      return [`network: ${messageOf(error)}`];
    }
  }
}

/**
 * The kind of what `NodeNetwork.repair` says that it removed: an address, a namespace of ours, or a container's
 * attachment.
 */
export function networkKindOf(name: string): 'address' | 'network_namespace' | 'attachment' {
  if (/^[0-9.]+$/.test(name) || name.includes(':')) {
    return 'address';
  }
  return name.startsWith('esb-slot-') ? 'network_namespace' : 'attachment';
}

function isOver(options: CallOptions): boolean {
  return options.signal?.aborted === true;
}

function healthOf(failures: readonly string[]): Health {
  if (failures.length === 0) {
    return { ok: true };
  }
  const more = failures.length > maxNamed ? `; and ${failures.length - maxNamed} more` : '';
  return {
    ok: false,
    reason: 'RepairFailed',
    message: `what workers left behind cannot be removed: ${failures.slice(0, maxNamed).join('; ')}${more}`,
  };
}

/** Names of files with a suffix, without it. */
async function names(folder: string, suffix: string): Promise<string[]> {
  const files = await undefinedIfNoFile(readdir(folder)).catch((error: unknown) => {
    throw new EsbError(`${folder} cannot be read: ${messageOf(error)}`, { code: 'StateUnreadable', cause: error });
  });
  return (files ?? []).filter((file) => file.endsWith(suffix)).map((file) => file.slice(0, -suffix.length));
}
