import { join } from 'node:path';
import { sleep } from '../common/deadline.ts';
import { EsbError, messageOf } from '../common/errors.ts';
import type { Health } from '../common/health.ts';
import type { ContainerRuntime } from '../runtime/contract/runtime.ts';
import type { AgentParts } from './agent-parts.ts';
import type { Cluster } from './cluster.ts';
import { GarbageCollector } from './gc/garbage-collector.ts';
import { ImageGarbageCollector } from './gc/image-gc.ts';
import { StalledOutput } from './logs/stalled-output.ts';
import { diskHealth } from './node/disk-health.ts';
import { watchEventLoop } from './node/event-loop.ts';
import { NodeHealth } from './node/node-health.ts';
import { WorkerUsages } from './node/worker-usages.ts';
import type { NodeRuntime } from './node-runtime.ts';
import type { CallBudget } from './rpc/call-budget.ts';
import { createSecretCache } from './secrets/secret-cache.ts';
import { ShareLease } from './sync/share-lease.ts';
import type { NodeFleet } from './worker/node-fleet.ts';
import { createFleet } from './worker/worker-manager.ts';

/** Milliseconds that the first start of the runtime gets before workers are served without it. */
const firstStartMs = 5_000;
const startRetryMs = 1_000;

export type Workload = ReturnType<typeof createWorkload>;

/** Makes the fleet and the parts that look after its workers. Nothing runs yet. */
export function createWorkload(parts: AgentParts, cluster: Cluster, node: NodeRuntime, budget: CallBudget) {
  const { clock, config, logger, metrics, runDir, stateDir } = parts;
  const { inits, runtime } = node;
  const { kubeconfig, systemNamespace } = config.cluster;
  const secretReader = createSecretCache({
    client: cluster.client,
    folder: join(runDir, 'secrets'),
    // A Pod has its service account; an agent with a kubeconfig is a user.
    agents: kubeconfig === undefined ? { kind: 'ServiceAccount', namespace: systemNamespace } : { kind: 'Users' },
    logger,
  });
  const shares = new ShareLease({
    known: () => fleet.views().map(({ epoch, identity }) => [identity.uid, epoch] as const),
    clock,
  });
  const fleet: NodeFleet = createFleet({
    runtime,
    inits,
    clock,
    logger,
    stateDir,
    runDir,
    capacity: cluster.promised(),
    metrics: {
      action: metrics.action,
      orphan: (outcome, containerId, why) => {
        metrics.orphan(outcome, containerId, why);
        garbage.orphan(outcome, containerId, why);
      },
    },
    onAnswered: (worker, result) => cluster.workerEvents.answered(worker, result),
    secretReader,
    holdsShare: (uid, epoch) => shares.holds(uid, epoch),
    tmpOnDisk: () => runtime.tmp.isOnDisk,
  });
  const health = createHealth(parts, node, fleet);
  const garbage = new GarbageCollector({
    runtime,
    fleet,
    network: node.network,
    ports: node.ports,
    recordsFolder: join(stateDir, 'workers'),
    marksFolder: runDir,
    clock,
    logger,
    metrics,
    onHealth: (left) => health.leftovers(left),
    periodMs: config.upkeep.auditSeconds * 1_000,
  });
  const imageCollector = new ImageGarbageCollector({
    images: runtime.nodeImages,
    wanted: () => fleet.images(),
    thresholds: {
      highPercent: config.images.gcHighPercent,
      lowPercent: config.images.gcLowPercent,
      minAgeMs: config.images.gcMinAgeSeconds * 1_000,
    },
    file: join(stateDir, 'images.json'),
    clock,
    logger,
  });
  metrics.observe({
    fleet,
    health,
    slots: node.slots,
    eventLoop: watchEventLoop(),
    heldBytes: () => budget.held + inits.heldBytes,
    refusals: node.refusals,
    images: () => imageCollector.collection,
  });
  const usages = new WorkerUsages({ fleet, runtime, clock });
  return { runtime, fleet, shares, usages, secretReader, health, garbage, imageCollector };
}

function createHealth({ clock, logger, stateDir }: AgentParts, { runtime }: NodeRuntime, fleet: NodeFleet): NodeHealth {
  const health = new NodeHealth({
    runtime,
    // The records and the logs may lie on file systems of their own.
    disk: async () =>
      firstFault(
        await diskHealth(stateDir),
        await diskHealth(join(stateDir, 'workers')),
        await diskHealth(join(stateDir, 'logs')),
        fleet.storageHealth(),
      ),
    leaving: () => fleet.leaving(),
    clock,
    logger,
  });
  const message = 'the agent is looking after what an earlier run left';
  health.note('start', { ok: false, reason: 'Starting', message });
  return health;
}

function firstFault(...states: readonly Health[]): Health {
  const fault = states.find(({ ok }) => !ok);
  return fault ?? states.find((state) => state.ok && state.warning !== undefined) ?? { ok: true };
}

/**
 * Starts the runtime in the background, again and again until that succeeds. Resolves when workers can be looked after,
 * at the latest after the first attempt: a failed start does not keep running workers from being served.
 */
export async function startRuntime({ clock, logger, tasks }: AgentParts, runtime: ContainerRuntime) {
  const observing = Promise.withResolvers<void>();
  const attempt = async (deadlineMs?: number): Promise<boolean> => {
    try {
      await runtime.start({ signal: tasks.signal, deadlineMs, onObserving: () => observing.resolve() });
      logger.info('runtime started');
      return true;
    } catch (error) {
      if (!tasks.signal.aborted) {
        logger.warn({ reason: EsbError.from(error).code, detail: messageOf(error) }, 'runtime cannot be started yet');
      }
      return false;
    }
  };
  tasks.run('runtime start', async (signal) => {
    let started = await attempt(firstStartMs);
    observing.resolve();
    while (!started) {
      await sleep(clock, startRetryMs, signal);
      started = await attempt();
    }
  });
  await observing.promise;
}

/** Looks for workers whose output a full disk cut off, each time that the disk has room again. */
export function watchOutput({ clock, logger, metrics, tasks }: AgentParts, workload: Workload): void {
  const { fleet, health, runtime } = workload;
  const output = new StalledOutput({ runtime, fleet, clock, logger, onLost: () => metrics.outputLost() });
  const look = (): void => {
    const disk = health.conditions().DiskReady;
    // Other faults of the disk do not cut off output.
    const isKnown = disk?.status === 'True' || disk?.reason === 'DiskFull';
    if (isKnown && output.told(disk.status === 'True', health.diskRoomAt)) {
      tasks.run('checking the output of workers', (signal) => output.run(signal));
    }
  };
  look();
  health.subscribe(look);
}
