import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ACCESS_KEYS_SECRET } from '../../src/api/name.ts';
import type { CommandContext } from '../../src/cli/command-context.ts';
import { createProgress, formatDuration, type Progress } from '../../src/cli/progress.ts';
import { lookUntil } from '../../src/cli/wait.ts';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';
import { EsbError, messageOf } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';
import { type Home, openHome } from '../common/home.ts';
import { lockProgram } from '../common/program-lock.ts';
import { repositoryRoot } from '../common/repository.ts';
import { ensureSampleImage, pushSampleImage, sampleImageNames } from '../image/sample-image.ts';
import { containerdConfig, registryHosts } from '../instance/containerd-config.ts';
import {
  claimVolatile,
  ensureSupervisor,
  type Instance,
  instanceOf,
  kubectl,
  waitForParts,
  writeEnvironment,
} from '../instance/instance.ts';
import { checkEngine } from '../instance/instance-engine.ts';
import { ensureInstanceKey } from '../instance/instance-key.ts';
import {
  anyFreePort,
  choosePorts,
  type InstanceState,
  isPortFree,
  movedPorts,
  nodeNames,
  portOf,
  readInstanceState,
  wantedPorts,
  writeInstanceState,
} from '../instance/instance-state.ts';
import { kubeconfigText } from '../instance/kubeconfig.ts';
import { requireRootOnLinux, requireSoleInstance } from '../instance/machine.ts';
import { infrastructureParts, type PartsOptions, roleParts } from '../instance/parts.ts';
import { openPki, type Pki } from '../instance/pki.ts';
import { callSample, type SampleCall } from '../instance/sample-worker.ts';
import { ensureNodeNamespace } from '../network/node-namespace.ts';
import { ensureInitProgram } from '../tools/built-program.ts';
import { ensureNeeds, runningNeeds } from '../tools/debian-packages.ts';
import { ensureLink, ensureTools, type ToolSet } from '../tools/tools.ts';

export interface UpOptions {
  readonly nodes: number;
  readonly gateways: number;
  readonly controllers: number;
  readonly audit: boolean;
  /** Options of every agent beside those of the instance, in place of those of an earlier `up`. */
  readonly agentOption: readonly string[];
  /** Whether the gateways authenticate callers; by default as in an earlier `up`, or not. */
  readonly authentication?: 'on' | 'off';
  /** Whether to apply the sample and call it. */
  readonly sample: boolean;
}

/** Beyond this number, nodes would meet the address plan and the longest socket path. */
const MOST_NODES = 8;
const PARTS_DEADLINE_MS = 120_000;
const NODES_DEADLINE_MS = 90_000;

const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata}]
`;

/**
 * Brings up a local instance: does the steps that are not done and leaves running parts alone. Returns when all parts
 * are healthy and the sample has answered.
 *
 * @throws {EsbError} with the way out, or with the end of the log of the part that does not come up
 */
export async function runUp(options: UpOptions, context: CommandContext): Promise<void> {
  requireRootOnLinux('up');
  if (options.nodes > MOST_NODES) {
    throw new EsbError(`${options.nodes} nodes are too many for one machine; ${MOST_NODES} is the most`, {
      code: 'InvalidArgument',
    });
  }
  const began = performance.now();
  const { signal, write } = context;
  const progress = createProgress({ write, quietBelowMs: 300 });
  const home = openHome();
  progress.say(`Bringing up a local instance in ${home.root}`);
  await ensureNeeds(runningNeeds, progress, signal);
  const lock = await lockProgram(home.lockFile, {
    signal,
    onWait: () => progress.say('  … waiting for another up or down'),
  });
  try {
    await requireSoleInstance(home);
    const tools = await ensureTools({ progress, signal });
    const instance = await bringUp(home, options, tools, progress, signal);
    const calls = await trySample(instance, options, tools, progress, signal);
    write(summary(instance, calls, performance.now() - began));
  } finally {
    await lock.release();
  }
}

async function bringUp(
  home: Home,
  options: UpOptions,
  tools: ToolSet,
  progress: Progress,
  signal: AbortSignal,
): Promise<Instance> {
  const state = await chooseState(home, options, (line) => progress.say(line));
  const instance = instanceOf(home, state);
  const pki = await writeFiles(instance, tools);
  for (const node of nodeNames(state.nodes)) {
    await ensureNodeNamespace(node, { signal });
  }
  const partsOptions: PartsOptions = {
    home,
    state,
    pki: pki.files,
    node: process.execPath,
    repository: repositoryRoot(),
    initProgram: await ensureInitProgram({ progress, signal }),
  };
  const infrastructure = infrastructureParts(partsOptions);
  const roles = roleParts(partsOptions);
  const supervisor = await ensureSupervisor(home, { signal });
  const known = new Set((await supervisor.status({ signal })).parts.map((part) => part.name));
  // Roles of an earlier run stay where they are; new ones wait for the resource definitions.
  const before = [...infrastructure, ...roles.filter((part) => known.has(part.name))];
  await progress.step('etcd, API server, registry and containerd', async (step) => {
    await supervisor.apply(before, { signal });
    await waitForParts(supervisor, infrastructure, step, { signal, deadlineMs: PARTS_DEADLINE_MS });
  });
  await progress.step('resource definitions and roles', async () => {
    await applyManifests(home, signal);
    if (state.authentication === 'on') {
      await applyAccessKey(home, signal);
    }
  });
  await progress.step('controller, agent and gateway', async (step) => {
    await supervisor.apply([...infrastructure, ...roles], { signal });
    await waitForParts(supervisor, [...infrastructure, ...roles], step, {
      signal,
      deadlineMs: PARTS_DEADLINE_MS,
    });
  });
  await progress.step('nodes', (step) => waitForNodes(instance, step.note, signal));
  await writeEnvironment(instance);
  return instance;
}

/** At least the present number: `up` takes nothing down. */
async function chooseState(home: Home, options: UpOptions, say: (line: string) => void): Promise<InstanceState> {
  await mkdir(home.root, { recursive: true, mode: 0o755 });
  const known = await readInstanceState(home.stateFile);
  const size = {
    nodes: Math.max(options.nodes, known?.nodes ?? 0),
    gateways: Math.max(options.gateways, known?.gateways ?? 0),
    controllers: Math.max(options.controllers, known?.controllers ?? 0),
    audit: options.audit || (known?.audit ?? false),
  };
  const wanted = wantedPorts(size);
  const ports = await choosePorts(wanted, known?.ports ?? {}, isPortFree, anyFreePort);
  for (const line of movedPorts(wanted, ports)) {
    say(line);
  }
  const agentOptions = options.agentOption.length > 0 ? options.agentOption : (known?.agentOptions ?? []);
  checkEngine(agentOptions, size.nodes);
  const authentication = options.authentication ?? known?.authentication;
  const state: InstanceState = {
    ...size,
    ports,
    ...(agentOptions.length > 0 ? { agentOptions } : {}),
    ...(authentication === undefined ? {} : { authentication }),
  };
  await writeInstanceState(home.stateFile, state);
  return state;
}

/** Writes the files that the parts read when they start. */
async function writeFiles(instance: Instance, tools: ToolSet): Promise<Pki> {
  const { home, state, registry } = instance;
  await claimVolatile(home);
  for (const folder of [home.bin, home.logs, home.run, home.registry, home.kubeconfigs, home.gateways]) {
    await mkdir(folder, { recursive: true, mode: 0o755 });
  }
  for (const [name, path] of tools.paths) {
    await ensureLink(join(home.bin, name), path);
  }
  await ensureLink(join(home.bin, 'esb'), join(repositoryRoot(), 'hack', 'esb.mjs'));
  await writeFile(home.auditPolicy, auditPolicy);
  const pki = await openPki(home.pki);
  await writeKubeconfigs(home, state, pki);
  for (const name of nodeNames(state.nodes)) {
    const node = home.node(name);
    const certs = join(node.certs, registry);
    for (const folder of [node.root, certs, node.agent, node.agentRun]) {
      await mkdir(folder, { recursive: true, mode: 0o755 });
    }
    await writeFile(join(certs, 'hosts.toml'), registryHosts(registry));
    await writeFile(node.containerdConfig, containerdConfig(node));
  }
  return pki;
}

async function writeKubeconfigs(home: Home, state: InstanceState, pki: Pki): Promise<void> {
  const server = `https://127.0.0.1:${portOf(state, 'apiserver')}`;
  const writeOne = async (file: string, user: string, groups: readonly string[], name: string): Promise<void> => {
    const client = await pki.client(name, { user, groups });
    await writeFileAtomically(file, kubeconfigText({ server, authority: pki.authority, user, client }));
  };
  const numbers = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
  await writeOne(home.kubeconfig, 'esb:admin', ['system:masters'], 'admin');
  for (const number of numbers(state.controllers)) {
    // The group tells two controllers apart in the audit log.
    const name = `controller-${number}`;
    await writeOne(join(home.kubeconfigs, name), 'esb:controller', [`esb:${name}`], name);
  }
  for (const number of numbers(state.gateways)) {
    const name = `gateway-${number}`;
    await writeOne(join(home.kubeconfigs, name), 'esb:gateway', [`esb:${name}`], name);
  }
  await writeOne(join(home.kubeconfigs, 'events'), 'esb:gateway', ['esb:events'], 'events');
  for (const node of nodeNames(state.nodes)) {
    await writeOne(join(home.kubeconfigs, `agent-${node}`), `esb:agent:${node}`, ['esb:agents'], `agent-${node}`);
  }
}

async function applyManifests(home: Home, signal: AbortSignal): Promise<void> {
  const root = repositoryRoot();
  // The namespace comes before the objects in it. Objects for Pods are left out: the parts of an instance are
  // processes.
  const files = [
    'crds',
    ...['namespace.yaml', 'rbac.yaml', 'agent-policy.yaml', 'status-policy.yaml', 'local'].map((name) =>
      join('manifests', name),
    ),
  ].flatMap((path) => ['-f', join(root, path)]);
  await kubectl(home, ['apply', '--server-side', '--force-conflicts', '--field-manager=esb-up', ...files], {
    signal,
  });
  await kubectl(
    home,
    ['wait', '--for=condition=Established', '--timeout=30s'].concat([
      'crd/lambdaworkers.esb.dev',
      'crd/lambdafunctions.esb.dev',
      'crd/lambdaversions.esb.dev',
      'crd/lambdanodes.esb.dev',
    ]),
    { signal },
  );
}

/** Makes the key of the instance stand for its administrator. Other keys of the Secret are left alone. */
async function applyAccessKey(home: Home, signal: AbortSignal): Promise<void> {
  const { accessKeyId, secretAccessKey } = await ensureInstanceKey(home.accessKey);
  const entry = JSON.stringify({ secretAccessKey, user: 'esb:admin', groups: ['system:masters'] });
  const secret = {
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name: ACCESS_KEYS_SECRET, namespace: 'default' },
    data: { [accessKeyId]: Buffer.from(entry).toString('base64') },
  };
  await kubectl(home, ['apply', '--server-side', '--force-conflicts', '--field-manager=esb-up', '-f', '-'], {
    signal,
    input: JSON.stringify(secret),
  });
}

interface NodeList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status?: {
      readonly conditions?: readonly {
        readonly type: string;
        readonly status: string;
        readonly message?: string;
      }[];
    };
  }[];
}

async function waitForNodes(instance: Instance, note: (text: string) => void, signal: AbortSignal): Promise<void> {
  const look = async (): Promise<string> => {
    const { stdout } = await kubectl(instance.home, ['get', 'lambdanodes', '-o', 'json'], { signal });
    const { items } = JSON.parse(stdout) as NodeList;
    const why = nodeNames(instance.state.nodes).flatMap((name) => {
      const node = items.find((item) => item.metadata.name === name);
      const ready = node?.status?.conditions?.find((condition) => condition.type === 'Ready');
      return ready?.status === 'True' ? [] : [`${name}: ${ready?.message ?? 'not registered yet'}`];
    });
    if (why.length > 0) {
      note(`waiting for ${why.join('; ')}`);
    }
    return why.join('; ');
  };
  const wait = { withinMs: NODES_DEADLINE_MS, everyMs: 300, signal };
  const left = await lookUntil(look, (why) => why === '', wait);
  if (left !== '') {
    throw new EsbError(`not every node is ready: ${left}`, { code: localCode('NodeNotReady') });
  }
}

async function trySample(
  instance: Instance,
  options: UpOptions,
  tools: ToolSet,
  progress: Progress,
  signal: AbortSignal,
): Promise<readonly SampleCall[]> {
  const imageOptions = { progress, tools: tools.folder, signal };
  for (const name of sampleImageNames) {
    try {
      const image = await ensureSampleImage(name, imageOptions);
      await pushSampleImage(image, instance.registry, imageOptions);
    } catch (error) {
      if (signal.aborted || (options.sample && name === 'python-counter')) {
        throw error;
      }
      progress.say(`  ! no image ${name}: ${messageOf(error)}`);
    }
  }
  return options.sample ? progress.step('sample function hello', (step) => callSample(instance, step, signal)) : [];
}

function summary(instance: Instance, calls: readonly SampleCall[], milliseconds: number): string {
  const { home, state, registry, gateways } = instance;
  const gateway = gateways[0] ?? '';
  const lines = [
    '',
    `ESB is up (${formatDuration(milliseconds)}): ${state.nodes} node${state.nodes > 1 ? 's' : ''}, ` +
      `API server, containerd, controller, agent and gateway.`,
    '',
  ];
  if (calls.length > 0) {
    lines.push('  Calls of the function hello through the gateway:');
    for (const { start, milliseconds: took, counter } of calls) {
      lines.push(`    ${start.padEnd(8)} ${took.toFixed(1).padStart(8)} ms   answered, counter ${counter}`);
    }
    lines.push('');
  }
  lines.push(
    `  kubeconfig  ${home.kubeconfig}`,
    `  gateway     ${gateways.join('  ')}`,
    `  registry    ${registry}`,
    `  logs        ${home.logs}`,
    '',
    '  Try next:',
    `    source ${home.envFile}`,
    '    esb init ../greeter && esb deploy ../greeter',
    '    kubectl get lambdaworkers -w',
    calls.length > 0
      ? state.authentication === 'on'
        ? `    esb invoke hello '{"echo": 1}'`
        : `    curl -d '{"echo": 1}' ${gateway}/2015-03-31/functions/hello/invocations`
      : `    kubectl apply -f ${join(repositoryRoot(), 'manifests/samples/hello.yaml')}`,
    '',
    '  esb status shows the parts and their ports; npm run down removes everything.',
    '',
  );
  return lines.join('\n');
}
