import { resourceDefinitions, versionOf } from '../../hack/resource-definition.ts';
import { repositoryRoot } from '../../local/common/repository.ts';
import { NodeHealth } from '../../src/agent/node/node-health.ts';
import { nodeStatus } from '../../src/agent/node/node-status.ts';
import { agentStatus } from '../../src/agent/sync/status-mapping.ts';
import { type LambdaFunction, templateHashOf } from '../../src/api/lambda-function.ts';
import type { LambdaNode } from '../../src/api/lambda-node.ts';
import type { LambdaVersion } from '../../src/api/lambda-version.ts';
import type { LambdaWorker, LambdaWorkerStatus } from '../../src/api/lambda-worker.ts';
import type { Health } from '../../src/common/health.ts';
import { silentLogger } from '../../src/common/logger.ts';
import { statusOf } from '../../src/controller/functions/function-status.ts';
import { versionStatusOf } from '../../src/controller/functions/version-status.ts';
import { groupsOf } from '../../src/controller/functions/worker-groups.ts';
import { type NodeState, nodeStatePatch } from '../../src/controller/nodes/node-state.ts';
import { decide } from '../../src/controller/workers/decide.ts';
import type { DecisionInput } from '../../src/controller/workers/decision.ts';
import { clearancePatch, statusPatch } from '../../src/controller/workers/status-draft.ts';
import type { PatchBody } from '../../src/kube/api/types.ts';
import type { FleetLab } from './fleet-lab.ts';
import { functionFixture, versionFixture } from './function-fixture.ts';
import { manualClock } from './manual-clock.ts';
import { nodeFixture, workerFixture } from './worker-fixture.ts';

const now = Date.parse('2026-11-02T03:04:05Z');

type Conditions = NonNullable<LambdaWorkerStatus['conditions']>;
type WithStatus = { readonly status?: object };

/** The object after a patch of its status. Conditions are merged by type, as the API server does for an apply. */
export function patched<T extends LambdaNode | LambdaWorker>(object: T, { body, kind }: PatchBody): T {
  const { status: wanted = {} } = body as { readonly status?: { readonly conditions?: Conditions } };
  const before: Conditions = object.status?.conditions ?? [];
  const conditions =
    kind === 'merge'
      ? (wanted.conditions ?? before)
      : [
          ...before.filter(({ type }) => wanted.conditions?.every((one) => one.type !== type)),
          ...(wanted.conditions ?? []),
        ];
  const status = { ...(object as WithStatus).status, ...defined(wanted), conditions };
  return { ...object, status };
}

function defined(value: object): object {
  return Object.fromEntries(Object.entries(value).filter(([, part]) => part !== undefined && part !== null));
}

/** Objects as they are created: the defaults of the definitions are all that there is of a status. */
export async function created(kind: 'LambdaNode'): Promise<LambdaNode>;
export async function created(kind: 'LambdaWorker'): Promise<LambdaWorker>;
export async function created(kind: 'LambdaFunction'): Promise<LambdaFunction>;
export async function created(kind: 'LambdaVersion'): Promise<LambdaVersion>;
export async function created(
  kind: 'LambdaFunction' | 'LambdaNode' | 'LambdaVersion' | 'LambdaWorker',
): Promise<LambdaFunction | LambdaNode | LambdaVersion | LambdaWorker> {
  const found = (await resourceDefinitions(repositoryRoot())).find((one) => one.definition.spec.names.kind === kind);
  const schema = found && versionOf(found).schema.openAPIV3Schema.properties?.status;
  const status = schema?.default as object;
  if (kind === 'LambdaFunction') {
    return { apiVersion: 'esb.dev/v1alpha1', kind, ...functionFixture(), status };
  }
  if (kind === 'LambdaVersion') {
    return { ...versionFixture(functionFixture(), 1), status };
  }
  return kind === 'LambdaNode'
    ? { ...nodeFixture(), metadata: { name: 'node-1', generation: 1 }, status }
    : { ...workerFixture(), status };
}

/** A worker of a fleet as its agent writes it. */
export function told(lab: FleetLab, object: LambdaWorker = workerFixture()): LambdaWorker {
  const view = lab.fleet.view('uid-of-hello');
  if (view === undefined) {
    throw new Error('the fleet has no such worker');
  }
  const conditions = object.status?.conditions?.filter(({ type }) => type === 'Scheduled') ?? [];
  const status = agentStatus(view, object.status, now);
  return {
    ...object,
    metadata: { ...object.metadata, generation: Math.max(object.metadata.generation ?? 1, view.observedGeneration) },
    status: { ...object.status, ...status, conditions: [...conditions, ...(status.conditions ?? [])] },
  };
}

/** A worker after the controller's next write. */
export function decided(worker: LambdaWorker, input: Partial<Omit<DecisionInput, 'worker'>>): LambdaWorker {
  const withFinalizer = { ...worker, metadata: { ...worker.metadata, finalizers: ['esb.dev/worker'] } };
  const made = decide({
    worker: withFinalizer,
    standing: { liveness: 'fresh' },
    left: [],
    deletingMs: 0,
    grant: () => ({ kind: 'unbound' }),
    place: () => ({ kind: 'placed', nodeName: 'node-1' }),
    isLossTold: false,
    mayLeaveFullNode: true,
    mayLeave: () => true,
    ...input,
  });
  if (made.kind !== 'write') {
    throw new Error(`the controller writes nothing: ${made.kind}`);
  }
  const written = patched(withFinalizer, statusPatch(withFinalizer, made.status, now));
  return made.cause === 'unassigned' ? patched(written, clearancePatch(written)) : written;
}

/** A function as the controller writes it, with these workers. */
export function counted(owner: LambdaFunction, owned: readonly LambdaWorker[], refusal?: string): LambdaFunction {
  const template = templateHashOf(owner.spec.template);
  const groups = groupsOf({ owner, template, versions: [], isAwaited: false });
  const refused = refusal === undefined ? undefined : ({ reason: 'WorkerRefused', message: refusal } as const);
  const found = { owner, groups, owned, refusal: refused, isPublishing: false };
  return { ...owner, status: statusOf(found, now) };
}

/** A version as the controller writes it, with these workers of as many as are wanted. */
export function versioned(version: LambdaVersion, workers: readonly LambdaWorker[], wanted: number): LambdaVersion {
  return { ...version, status: versionStatusOf({ version, workers, wanted, refusal: undefined }, now) };
}

interface NodeFaults {
  readonly containerd?: Health;
  readonly network?: Health;
  readonly note?: Health;
  readonly retirement?: Health;
}

/** A node as its agent writes it. */
export async function reported(node: LambdaNode, faults: NodeFaults = {}): Promise<LambdaNode> {
  const { containerd, network = { ok: true }, note, retirement } = faults;
  const health = new NodeHealth({
    runtime: {
      health: async () => (containerd === undefined || containerd.ok ? { ok: true, version: '2.4.2' } : containerd),
      networkHealth: async () => network,
      subscribe: () => () => undefined,
    },
    leaving: () => [],
    disk: async () => ({ ok: true }),
    clock: manualClock(),
    logger: silentLogger(),
  });
  if (note !== undefined) {
    health.note('test', note);
  }
  health.retirement(retirement);
  await health.look();
  const facts = {
    ...{ endpoint: '127.0.0.1:9443', certificate: '', versions: {}, images: [], setAside: [], leaving: [] },
    capacity: { memoryMiB: 1_536, milliCPU: 100_000, workers: 10 },
    allocated: { memoryMiB: 0, workers: 0 },
    promisedMiB: 1_536,
    unschedulable: undefined,
    conditions: health.conditions(),
  };
  return { ...node, status: nodeStatus(facts, node, now) };
}

/** A node after the controller's word about it. */
export function found(node: LambdaNode, state: NodeState): LambdaNode {
  const patch = nodeStatePatch(node, state, now);
  return patch === undefined ? node : patched(node, patch);
}
