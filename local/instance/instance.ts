import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readInstanceKey } from '../../src/cli/call-credentials.ts';
import type { Step } from '../../src/cli/progress.ts';
import { lookUntil } from '../../src/cli/wait.ts';
import { writeFileAtomically } from '../../src/common/atomic-file.ts';
import type { CallOptions } from '../../src/common/deadline.ts';
import { EsbError, hasCode } from '../../src/common/errors.ts';
import { type CommandResult, lastLines, runCommand } from '../common/command.ts';
import { localCode } from '../common/error-codes.ts';
import type { Home } from '../common/home.ts';
import { INSTANCE_VARIABLE } from '../common/process-table.ts';
import type { PartSpec, PartStatus } from '../supervisor/part.ts';
import { createSupervisorClient, type SupervisorClient } from '../supervisor/supervisor-client.ts';
import { type InstanceState, portOf, readInstanceState } from './instance-state.ts';

/** A local instance that was brought up, running or not. */
export interface Instance {
  readonly home: Home;
  readonly state: InstanceState;
  readonly supervisor: SupervisorClient;
  /** `host:port` of its registry. */
  readonly registry: string;
  /** Addresses of its gateways, in order. */
  readonly gateways: readonly string[];
}

/** Variables of the caller that the parts get, to find programs, reach the network and start quickly. */
const passedOn = [
  'HOME',
  'LANG',
  'TZ',
  'HTTP_PROXY',
  'HTTPS_PROXY',
  'http_proxy',
  'https_proxy',
  'SSL_CERT_FILE',
  'SSL_CERT_DIR',
  'NODE_COMPILE_CACHE',
] as const;

const SUPERVISOR_DEADLINE_MS = 20_000;
const LOG_LINES = 12;

/** The instance in `home`; undefined where `up` was never run. */
export async function openInstance(home: Home): Promise<Instance | undefined> {
  const state = await readInstanceState(home.stateFile);
  return state === undefined ? undefined : instanceOf(home, state);
}

/**
 * @throws {EsbError} `NoInstance` where `up` was never run
 */
export async function requireInstance(home: Home): Promise<Instance> {
  const instance = await openInstance(home);
  if (instance === undefined) {
    throw new EsbError(`there is no local instance in ${home.root}; bring one up with: npm run up`, {
      code: localCode('NoInstance'),
    });
  }
  return instance;
}

export function instanceOf(home: Home, state: InstanceState): Instance {
  return {
    home,
    state,
    supervisor: createSupervisorClient(home.supervisorSocket),
    registry: `127.0.0.1:${portOf(state, 'registry')}`,
    gateways: Array.from(
      { length: state.gateways },
      (_, index) => `http://127.0.0.1:${portOf(state, `gateway-${index + 1}`)}`,
    ),
  };
}

/** The environment of every part. */
export function partEnvironment(home: Home, env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const passed = Object.fromEntries(passedOn.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])));
  const unproxied = ['127.0.0.1', 'localhost', '10.0.0.0/8', env.NO_PROXY ?? env.no_proxy ?? '']
    .filter((part) => part !== '')
    .join(',');
  return {
    ...passed,
    NO_PROXY: unproxied,
    no_proxy: unproxied,
    PATH: `${home.bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`,
    [INSTANCE_VARIABLE]: home.root,
  };
}

/** Starts the supervisor unless it runs already. */
export async function ensureSupervisor(home: Home, options: CallOptions = {}): Promise<SupervisorClient> {
  const client = createSupervisorClient(home.supervisorSocket);
  const answers = async (): Promise<boolean> => {
    try {
      await client.status({ ...options, deadlineMs: 10_000 });
      return true;
    } catch (error) {
      if (hasCode(error, localCode('SupervisorGone'))) {
        return false;
      }
      throw error;
    }
  };
  if (await answers()) {
    return client;
  }
  await mkdir(home.logs, { recursive: true });
  const logFile = join(home.logs, 'supervisor.log');
  const log = openSync(logFile, 'a', 0o600);
  const started = Promise.withResolvers<void>();
  const child = spawn(
    process.execPath,
    ['--disable-warning=ExperimentalWarning', join(import.meta.dirname, '../supervisor/supervisor-process.ts')],
    { detached: true, stdio: ['ignore', log, log], env: partEnvironment(home), cwd: '/' },
  );
  closeSync(log);
  child.once('spawn', () => started.resolve());
  child.once('error', started.reject);
  await started.promise;
  child.unref();
  const hasEnded = (): boolean => child.exitCode !== null || child.signalCode !== null;
  const wait = { withinMs: SUPERVISOR_DEADLINE_MS, signal: options.signal };
  if (!(await lookUntil(answers, (isUp) => isUp || hasEnded(), wait))) {
    throw new EsbError(`the supervisor does not answer; the end of ${logFile}:\n${await tail(logFile, LOG_LINES)}`, {
      code: localCode('SupervisorGone'),
    });
  }
  return client;
}

/**
 * Waits until all parts are healthy.
 *
 * @throws {EsbError} `PartUnhealthy` with the end of the log of the first unhealthy part, when the time is
 *   over or a part has ended again and again
 */
export async function waitForParts(
  client: SupervisorClient,
  parts: readonly PartSpec[],
  step: Step,
  options: CallOptions & { readonly deadlineMs: number },
): Promise<void> {
  const names = new Set(parts.map((part) => part.name));
  const look = async (): Promise<readonly PartStatus[]> => {
    const { parts: all } = await client.status({ signal: options.signal });
    const waiting = all.filter((part) => names.has(part.name) && part.health !== 'healthy');
    if (waiting.length > 0) {
      const healths = waiting.map((part) => `${part.name}: ${part.health}`).join('; ');
      step.note(`waiting for ${healths.slice(0, 200)}`);
    }
    return waiting;
  };
  const [first] = await lookUntil(look, (waiting) => waiting.length === 0, {
    withinMs: options.deadlineMs,
    signal: options.signal,
  });
  if (first !== undefined) {
    const logFile = parts.find((part) => part.name === first.name)?.logFile ?? '';
    throw new EsbError(
      `${first.name} is not healthy: ${first.health}\nthe end of ${logFile}:\n${await tail(logFile, LOG_LINES)}`,
      { code: localCode('PartUnhealthy') },
    );
  }
}

/** Runs the instance's kubectl as its administrator. */
export function kubectl(
  home: Home,
  args: readonly string[],
  options: CallOptions & { readonly input?: string } = {},
): Promise<CommandResult> {
  return runCommand(
    join(home.bin, 'kubectl'),
    ['--kubeconfig', home.kubeconfig, '--cache-dir', join(home.root, 'kubectl-cache'), ...args],
    { ...options, env: { ...process.env, KUBECONFIG: home.kubeconfig } },
  );
}

/** Writes the variables that `source .esb/env` gives a shell. Tests take them back: `hack/instance-variables.mjs`. */
export async function writeEnvironment(instance: Instance): Promise<void> {
  const { home, registry, gateways, state } = instance;
  const key = state.authentication === 'on' ? await readInstanceKey(home.accessKey) : undefined;
  const values = {
    KUBECONFIG: home.kubeconfig,
    ESB_HOME: home.root,
    ESB_REGISTRY: registry,
    ESB_GATEWAY: gateways[0] ?? '',
    ESB_GATEWAYS: gateways.join(' '),
    CONTAINERD_ADDRESS: home.node('node-1').containerdSocket,
    CONTAINERD_NAMESPACE: 'esb',
    AWS_ENDPOINT_URL_LAMBDA: gateways[0] ?? '',
    AWS_REGION: 'us-east-1',
    AWS_DEFAULT_REGION: 'us-east-1',
    // AWS SDKs sign every call. Where callers are not authenticated, any key will do.
    AWS_ACCESS_KEY_ID: key?.accessKeyId ?? 'local',
    AWS_SECRET_ACCESS_KEY: key?.secretAccessKey ?? 'local',
  };
  const lines = Object.entries(values).map(([name, value]) => `export ${name}="${value}"\n`);
  await writeFileAtomically(
    home.envFile,
    `# For \`source\`: how to use the local instance.\n${lines.join('')}export PATH="${home.bin}:$PATH"\n`,
  );
}

/** Marks the volatile folder as belonging to `home`. */
export async function claimVolatile(home: Home): Promise<void> {
  await mkdir(home.volatile, { recursive: true, mode: 0o700 });
  await writeFile(home.ownerFile, home.root);
}

/** The last lines of a log; empty when there is none. */
export async function tail(file: string, count: number): Promise<string> {
  try {
    return lastLines(await readFile(file, 'utf8'), count);
  } catch {
    return '';
  }
}
