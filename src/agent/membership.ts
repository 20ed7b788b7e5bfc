import { join as joinPath } from 'node:path';
import { lambdaNodes } from '../api/lambda-node.ts';
import { checkDefinitions } from '../api/schema-revision.ts';
import type { Clock } from '../common/clock.ts';
import { programVersion } from '../common/program-version.ts';
import type { ContainerRuntime } from '../runtime/contract/runtime.ts';
import { type AgentParts, every } from './agent-parts.ts';
import { type Cluster, watchAssigned } from './cluster.ts';
import { Decommission } from './node/decommission.ts';
import { keepNodeLease } from './node/node-lease.ts';
import { NodeRegistration } from './node/node-registration.ts';
import { machineVersions, nodeVersions } from './node/node-status.ts';
import { RESERVATION_FILE, Reservation } from './node/reservation.ts';
import { tmpReport } from './node/tmp-report.ts';
import type { Port } from './port.ts';
import { AssignmentWatch } from './sync/assignment-watch.ts';
import { StatusWriter } from './sync/status-writer.ts';
import type { Workload } from './workload.ts';

const schemaRetryMs = 10_000;
const imagesMs = 60_000;
const nodeCountMs = 120_000;
const nodeCountRetryMs = 5_000;

export type Membership = ReturnType<typeof createMembership>;

/**
 * Makes the parts that take orders from the API server and report to it. Nothing runs yet.
 *
 * @param isLeaving whether the agent takes everything off the node
 */
export function createMembership(
  { clock, config, logger, metrics, stateDir, stops }: AgentParts,
  cluster: Cluster,
  port: Port,
  workload: Workload,
  isLeaving: () => boolean,
) {
  const { client, fieldSelector, ownLambdaNode, ownNode, policy } = cluster;
  const { fleet, health, shares } = workload;
  const { nodeName } = config.cluster;
  const assigned = watchAssigned(cluster, logger, () => watch.readSoon());
  const writer = new StatusWriter({
    client,
    fleet,
    cache: assigned.cache,
    nodeName,
    clock,
    logger,
    onWrite: metrics.statusWritten,
  });
  metrics.observeActivity(() => writer.waiting);
  const watch = new AssignmentWatch({
    informer: assigned,
    client,
    fleet,
    nodeName,
    fieldSelector,
    clock,
    logger,
    policy,
    shares,
    onObject: (worker) => writer.objectChanged(worker),
  });
  stops.defer(() => watch.stop());
  stops.defer(() => writer.stop());
  const images = imageList(workload.runtime, clock);
  const registration = new NodeRegistration({
    client,
    nodeName,
    health,
    nodes: ownNode,
    facts: async (told) => ({
      endpoint: port.endpoint,
      certificate: port.identity.published,
      versions: {
        ...machineVersions(programVersion()),
        ...nodeVersions(ownNode.cache.get({ name: nodeName })),
        ...(health.containerdVersion === undefined ? {} : { containerd: health.containerdVersion }),
      },
      capacity: cluster.promised(),
      allocated: fleet.allocation(),
      promisedMiB: fleet.limits().memoryMiB,
      setAside: fleet.setAside(),
      leaving: fleet.stillHere(told.leaving ?? []),
      // A state folder that cannot be read is told by the condition of the disk.
      ephemeralStorage: isLeaving()
        ? undefined
        : tmpReport(await workload.runtime.tmp.storage().catch(() => undefined), told.ephemeralStorage),
      images: isLeaving() ? [] : await images(),
    }),
    clock,
    logger,
  });
  const reservation = new Reservation({
    fleet,
    file: joinPath(stateDir, RESERVATION_FILE),
    onChange: () => registration.hurry(),
    logger,
  });
  const decommission = new Decommission({
    node: ownLambdaNode,
    nodeName,
    client,
    fieldSelector,
    fleet,
    health,
    clock,
    logger,
  });
  return { writer, watch, registration, reservation, decommission };
}

/** Shows the node in the API server: its Lease, its LambdaNode, and the ranges that its subnet may not meet. */
export function join(
  parts: AgentParts,
  cluster: Cluster,
  { fleet, health, shares }: Workload,
  { registration, reservation, watch, writer }: Membership,
): void {
  const { clock, config, logger, metrics, tasks } = parts;
  const { client, leaseClient, ownLambdaNode, ownNode, policy, ranges } = cluster;
  const { nodeName, systemNamespace: namespace } = config.cluster;
  const onRenewal = (ok: boolean, beganAt: number): void => {
    metrics.leaseRenewed(ok);
    if (ok && shares.renewed(beganAt)) {
      watch.readSoon();
    }
  };
  const lease = {
    client: leaseClient,
    nodeName,
    namespace,
    ownerUid: () => ownLambdaNode.cache.get({ name: nodeName })?.metadata.uid,
    clock,
    logger,
    onRenewal,
  };
  tasks.run('lease', (signal) => keepNodeLease(lease, signal));
  tasks.run('registration', (signal) => registration.run(signal));
  tasks.run('ranges', (signal) => ranges.run(signal));
  every(parts, 'schema', schemaRetryMs, async (signal) => {
    const fit = await checkDefinitions(client, { signal });
    health.note('schema', fit);
    return fit.ok;
  });
  const count = async (signal: AbortSignal): Promise<void> =>
    writer.shareAmong(await client.count(lambdaNodes, { signal }));
  every(parts, 'number of nodes', nodeCountMs, count, nodeCountRetryMs);
  ownNode.subscribe(() => {
    fleet.resize(cluster.promised());
    registration.hurry();
  });
  ownLambdaNode.subscribe(({ kind, object }) => {
    if (fleet.resize(cluster.promised())) {
      registration.hurry();
    }
    if (kind !== 'deleted') {
      reservation.note(object);
      registration.noteObject(object);
    }
  });
  cluster.publishedRanges.start();
  ownNode.start();
  ownLambdaNode.start();
  cluster.policies.start();
  tasks.run('policy of workers', (signal) => policy.run(signal));
}

/** The images of the node, read at most once a minute: the list has up to a thousand references. */
function imageList(runtime: Pick<ContainerRuntime, 'images'>, clock: Clock): () => Promise<readonly string[]> {
  let images: readonly string[] = [];
  let readAt = Number.NEGATIVE_INFINITY;
  return async () => {
    if (clock.monotonic() - readAt >= imagesMs) {
      try {
        images = await runtime.images();
        readAt = clock.monotonic();
      } catch {
        // The condition of containerd says why; the last list is still the best guess.
      }
    }
    return images;
  };
}
