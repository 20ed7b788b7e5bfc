import { join } from 'node:path';
import { NodeHealth } from '../../../src/agent/node/node-health.ts';
import { keepNodeLease } from '../../../src/agent/node/node-lease.ts';
import { NodeRegistration } from '../../../src/agent/node/node-registration.ts';
import { machineVersions } from '../../../src/agent/node/node-status.ts';
import { RESERVATION_FILE, Reservation } from '../../../src/agent/node/reservation.ts';
import { AssignmentWatch } from '../../../src/agent/sync/assignment-watch.ts';
import { StatusWriter } from '../../../src/agent/sync/status-writer.ts';
import { createFleet } from '../../../src/agent/worker/worker-manager.ts';
import { lambdaNodes, type NodeAmounts } from '../../../src/api/lambda-node.ts';
import { ASSIGNED_NODE_FIELD, type LambdaWorker, lambdaWorkers } from '../../../src/api/lambda-worker.ts';
import { CLIENT_CA_NAME, SYSTEM_NAMESPACE } from '../../../src/api/name.ts';
import { systemClock } from '../../../src/common/clock.ts';
import { sleep } from '../../../src/common/deadline.ts';
import type { Logger } from '../../../src/common/logger.ts';
import { repeat } from '../../../src/common/repeat.ts';
import { TaskGroup } from '../../../src/common/task-group.ts';
import { configMaps, nodes } from '../../../src/kube/api/resource-types.ts';
import { ListWatchInformer } from '../../../src/kube/cache/informer.ts';
import { createKubeClient, LEASE_REQUESTS } from '../../../src/kube/client/client.ts';
import { createKubeConnectionSource } from '../../../src/kube/client/kube-config.ts';
import { FakeEmulators } from '../fake-emulator.ts';
import { FakeInits } from '../fake-inits.ts';
import { FakeRuntime } from '../fake-runtime.ts';
import { SimulatedCalls } from './simulated-calls.ts';

/** How long a container takes to be made, frozen and thawed, in milliseconds; about what the real ones do. */
const takes = { ensure: 100, pause: 5, resume: 1 } as const;
/** Milliseconds of a call. */
const callMs = 200;
/** As long as a real one: a P-256 certificate in PEM. */
const certificate = `-----BEGIN CERTIFICATE-----\n${'A'.repeat(560)}\n-----END CERTIFICATE-----\n`;

export interface SimulatedAgentOptions {
  readonly nodeName: string;
  /** File; of the node's own user. */
  readonly kubeconfig: string;
  /** Folder of the agent's records; it must exist. */
  readonly folder: string;
  readonly capacity: NodeAmounts;
  readonly logger: Logger;
}

export interface SimulatedAgent {
  readonly calls: SimulatedCalls;
  stop(): Promise<void>;
}

/**
 * The agent of a node without the node: all that it says to the API server and hears from it, with the workers' actors
 * and records in between, is the agent's own code, put together as its role does; the containers are in memory. The
 * server for gateways and the upkeep of containerd, network and disk are left out.
 */
export async function startSimulatedAgent(options: SimulatedAgentOptions): Promise<SimulatedAgent> {
  const { nodeName, folder, capacity, logger } = options;
  const clock = systemClock;
  const tasks = new TaskGroup((task, error) => logger.error({ err: error, task, nodeName }, 'task failed'));
  const source = createKubeConnectionSource({ kubeconfig: options.kubeconfig });
  const userAgent = `esb-agent/${nodeName}`;
  const client = createKubeClient({ source, userAgent });
  const leaseClient = createKubeClient({ source, userAgent, maxInFlight: LEASE_REQUESTS });
  const inits = new FakeInits();
  inits.onCall = (call) => setTimeout(() => call.answer(), callMs);
  const runtime = new FakeRuntime();
  runtime.inits = inits;
  runtime.before = (operation) =>
    operation in takes ? sleep(clock, takes[operation as keyof typeof takes], tasks.signal) : Promise.resolve();
  const fleet = createFleet({
    runtime,
    clock,
    logger,
    stateDir: join(folder, 'state'),
    runDir: join(folder, 'run'),
    capacity,
    secretReader: { read: () => Promise.resolve(undefined) },
    connect: new FakeEmulators().connect,
    inits,
  });
  const health = new NodeHealth({
    runtime,
    leaving: () => [],
    disk: () => Promise.resolve({ ok: true }),
    clock,
    logger,
  });
  const ownNode = new ListWatchInformer(client, nodes, { fieldSelector: `metadata.name=${nodeName}` }, { logger });
  const clientCa = new ListWatchInformer(
    client,
    configMaps,
    { namespace: SYSTEM_NAMESPACE, fieldSelector: `metadata.name=${CLIENT_CA_NAME}` },
    { logger },
  );
  const fieldSelector = `${ASSIGNED_NODE_FIELD}=${nodeName}`;
  const assigned = new ListWatchInformer<LambdaWorker>(client, lambdaWorkers, { fieldSelector }, { logger });
  const writer = new StatusWriter({ client, fleet, cache: assigned.cache, nodeName, clock, logger });
  const watch = new AssignmentWatch({
    informer: assigned,
    client,
    fleet,
    nodeName,
    fieldSelector,
    clock,
    logger,
    onObject: (worker) => writer.objectChanged(worker),
  });
  const registration = new NodeRegistration({
    client,
    nodeName,
    health,
    nodes: ownNode,
    facts: (told) =>
      Promise.resolve({
        endpoint: '127.0.0.1:1',
        certificate,
        versions: machineVersions('simulated'),
        capacity,
        allocated: fleet.allocation(),
        promisedMiB: fleet.limits().memoryMiB,
        images: [],
        setAside: [],
        leaving: fleet.stillHere(told.leaving ?? []),
      }),
    clock,
    logger,
  });

  const ownLambdaNode = new ListWatchInformer(
    client,
    lambdaNodes,
    { fieldSelector: `metadata.name=${nodeName}` },
    { logger },
  );
  const reservation = new Reservation({
    fleet,
    file: join(folder, 'state', RESERVATION_FILE),
    onChange: () => registration.hurry(),
    logger,
  });
  ownLambdaNode.subscribe(({ kind, object }) => {
    if (kind !== 'deleted') {
      reservation.note(object);
      registration.noteObject(object);
    }
  });

  await fleet.adopt({ signal: tasks.signal });
  tasks.run('health', (signal) => health.run(signal));
  tasks.run('lease', (signal) =>
    keepNodeLease({ client: leaseClient, nodeName, namespace: SYSTEM_NAMESPACE, clock, logger }, signal),
  );
  tasks.run('registration', (signal) => registration.run(signal));
  tasks.run('number of nodes', (signal) =>
    repeat({ clock, everyMs: 120_000, retryMs: 5_000, onError: () => undefined }, signal, async () =>
      writer.shareAmong(await client.count(lambdaNodes, { signal })),
    ),
  );
  clientCa.start();
  ownNode.subscribe(() => registration.hurry());
  ownNode.start();
  ownLambdaNode.start();
  writer.start();
  watch.start();

  return {
    calls: new SimulatedCalls(fleet),
    async stop() {
      await fleet.stop(0);
      await writer.stop();
      await watch.stop();
      await Promise.all([ownNode.stop(), ownLambdaNode.stop(), clientCa.stop(), tasks.stop()]);
      await Promise.all([client.close(), leaseClient.close()]);
    },
  };
}
