import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { onTestFinished } from 'vitest';
import { containerIdOf } from '../../src/agent/model/container-id.ts';
import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import type { Invocation, InvocationResult } from '../../src/agent/model/invocation.ts';
import type { WorkerRecord } from '../../src/agent/model/worker-record.ts';
import type { FleetLimits, FleetOptions, NodeFleet } from '../../src/agent/worker/node-fleet.ts';
import { createFleet } from '../../src/agent/worker/worker-manager.ts';
import type { Clock } from '../../src/common/clock.ts';
import { type Logger, silentLogger } from '../../src/common/logger.ts';
import type { ContainerRuntime, RuntimeEvent } from '../../src/runtime/contract/runtime.ts';
import { FakeEmulators } from './fake-emulator.ts';
import { FakeInits } from './fake-inits.ts';
import { FakeRuntime } from './fake-runtime.ts';
import { type ManualClock, manualClock, settle } from './manual-clock.ts';
import { waitFor } from './wait-for.ts';

/** A worker `default/hello` that rests Running. */
export function desiredFixture(change: Partial<DesiredWorker> & { readonly name?: string } = {}): DesiredWorker {
  const { name = 'hello', ...rest } = change;
  return {
    identity: { namespace: 'default', name, uid: `uid-of-${name}`, functionName: name },
    generation: 1,
    epoch: 1,
    shapeHash: 'v1-a',
    image: 'registry.example/hello:1',
    imagePullPolicy: 'IfNotPresent',
    imagePullSecrets: [],
    command: [],
    args: [],
    env: [],
    memoryMiB: 128,
    pids: 256,
    ephemeralStorageMiB: 16,
    readOnlyRootFilesystem: true,
    timeoutSeconds: 3,
    runtimeInterface: 'Emulator',
    startupTimeoutSeconds: 60,
    port: 8080,
    networkMode: 'Bridge',
    restingState: 'Running',
    wakePolicy: 'OnInvoke',
    terminationGraceSeconds: 1,
    deleting: false,
    ...rest,
  };
}

export interface LabOptions {
  readonly limits?: FleetLimits;
  readonly capacity?: { readonly memoryMiB: number; readonly workers: number };
  /** Where an earlier fleet worked. */
  readonly after?: FleetLab;
  readonly logger?: Logger;
  readonly onAnswered?: FleetOptions['onAnswered'];
  readonly holdsShare?: FleetOptions['holdsShare'];
}

/** A fleet over a runtime and emulators in memory, on a clock that the test moves. */
export class FleetLab {
  readonly clock: ManualClock;
  readonly runtime: FakeRuntime;
  readonly emulators: FakeEmulators;
  /** The inits of workers of interface `Lambda`; those of an earlier agent connect when the test says so. */
  readonly inits: FakeInits;
  readonly folder: string;
  readonly fleet: NodeFleet;
  /** Every phase that was shown of each worker, in order and without repetitions. */
  readonly phases = new Map<string, string[]>();
  readonly secrets = new Map<string, string>();
  readonly #life = { killed: false };
  #requests = 0;

  constructor(options: LabOptions = {}) {
    const { after } = options;
    this.clock = after?.clock ?? manualClock();
    this.runtime = after?.runtime ?? new FakeRuntime(() => this.clock.now());
    this.emulators = after?.emulators ?? new FakeEmulators();
    this.inits = after?.inits ?? new FakeInits();
    if (after === undefined) {
      this.#keepWatch();
    }
    this.folder = after?.folder ?? mkdtempSync(join(tmpdir(), 'esb-fleet-'));
    onTestFinished(async () => {
      this.#life.killed = true;
      await settle();
      // Records and marks that are being written now bring the folder back.
      for (let quiet = 0; after === undefined && quiet < 3; await delay(3)) {
        quiet = existsSync(this.folder) ? 0 : quiet + 1;
        rmSync(this.folder, { recursive: true, force: true });
      }
    });
    if (after === undefined) {
      this.runtime.subscribe(({ containerId, kind }) => {
        const address = this.runtime.containers.get(containerId)?.address;
        if (kind === 'Exited' && address !== undefined) {
          this.emulators.ended(address);
        }
      });
    }
    this.emulators.stateOf = ({ ip }) => {
      const found = [...this.runtime.containers.values()].find(({ address }) => address?.ip === ip);
      const kind = found?.task.kind;
      return kind === 'Running' || kind === 'Paused' ? kind : 'Gone';
    };
    this.fleet = createFleet({
      runtime: mortalRuntime(this.runtime, this.#life),
      clock: mortalClock(this.clock, this.#life),
      logger: options.logger ?? silentLogger(),
      stateDir: join(this.folder, 'state'),
      runDir: join(this.folder, 'run'),
      capacity: options.capacity ?? { memoryMiB: 10_000, workers: 100 },
      secretReader: {
        read: (namespace, name, key) => Promise.resolve(this.secrets.get(`${namespace}/${name}/${key}`)),
      },
      connect: this.emulators.connect,
      inits: mortalInits(this.inits, this.#life),
      ...(options.onAnswered === undefined ? {} : { onAnswered: options.onAnswered }),
      ...(options.holdsShare === undefined ? {} : { holdsShare: options.holdsShare }),
      tmpOnDisk: () => this.runtime.tmp.isOnDisk,
      ...(options.limits === undefined ? {} : { limits: options.limits }),
    });
    this.fleet.subscribe({
      changed: (view) => {
        const phases = this.phases.get(view.identity.name) ?? [];
        if (phases.at(-1) !== view.phase) {
          this.phases.set(view.identity.name, [...phases, view.phase]);
        }
      },
      removed: (uid) => {
        this.phases.set(uid.replace('uid-of-', ''), []);
      },
    });
  }

  /** A fleet that has adopted, with one worker applied and brought to where it rests. */
  static async with(desired: DesiredWorker, options: LabOptions = {}): Promise<FleetLab> {
    const lab = new FleetLab(options);
    await lab.fleet.adopt();
    lab.fleet.apply(desired);
    await settle();
    return lab;
  }

  /** Kills the agent, as SIGKILL would, and starts it again. */
  async restart(options: LabOptions = {}): Promise<FleetLab> {
    this.#life.killed = true;
    this.emulators.leave();
    this.inits.agentGone();
    const lab = new FleetLab({ ...options, after: this });
    await lab.fleet.adopt();
    await settle();
    return lab;
  }

  /** A worker with an init is frozen only while the init says that it may be, and called only while it is not. */
  #keepWatch(): void {
    const { inits, runtime } = this;
    runtime.inits = inits;
    inits.now = () => this.clock.monotonic();
    inits.isFrozen = (containerId) => runtime.taskOf(containerId) === 'Paused';
    runtime.onEffect = (operation, containerId) => {
      const link = inits.link(containerId);
      if ((operation === 'pause' || operation === 'settle') && link !== undefined && link.state?.idle !== true) {
        inits.violations.push(`${operation} of ${containerId}, which is not idle`);
      }
    };
    onTestFinished(() => {
      if (inits.violations.length > 0) {
        throw new Error(inits.violations.join('\n'));
      }
    });
  }

  /** Waits until the record of a worker on disk is as `holds` wants it. */
  async recorded(holds: (record: WorkerRecord) => boolean, name = 'hello'): Promise<void> {
    const path = join(this.folder, 'state', 'workers', `uid-of-${name}.json`);
    const outdated = join(this.folder, 'run', 'outdated', `uid-of-${name}`);
    const isWritten = (): boolean => {
      const record = JSON.parse(readFileSync(path, 'utf8')) as WorkerRecord;
      const isOutdated = existsSync(outdated) && readFileSync(outdated, 'utf8').includes(record.container?.id ?? '');
      return holds(record) && !(isOutdated && record.served !== undefined);
    };
    await waitFor('the record', isWritten, { everyMs: 2, timeoutMs: 5_000 });
  }

  /** A call that an earlier agent has left comes to its end: the emulator writes the last line of it all the same. */
  endLeft(requestId: string): void {
    const { left } = this.emulators;
    const at = left.findIndex(({ request }) => request.requestId === requestId);
    const [call] = at < 0 ? [] : left.splice(at, 1);
    const found = [...this.runtime.containers.values()].find(
      ({ address }) => address !== undefined && address.ip === call?.address.ip,
    );
    if (found === undefined) {
      throw new Error(`no agent has left ${requestId}`);
    }
    const log = this.runtime.logs.get(found.containerId) ?? '';
    const end = `END RequestId: ${requestId}\nREPORT RequestId: ${requestId}\tDuration: 1.00 ms\n`;
    this.runtime.logs.set(found.containerId, `${log}${end}`);
  }

  /** The container of a worker of one shape; of that generation, where there are several. */
  container(name = 'hello', shapeHash = 'v1-a', generation = 0): string {
    return containerIdOf({ namespace: 'default', name, uid: `uid-of-${name}` }, shapeHash, generation);
  }

  task(name = 'hello'): string | undefined {
    return this.runtime.taskOf(this.container(name));
  }

  phase(name = 'hello'): string | undefined {
    return this.fleet.view(`uid-of-${name}`)?.phase;
  }

  conditions(name = 'hello') {
    return this.fleet.view(`uid-of-${name}`)?.conditions;
  }

  ready(name = 'hello') {
    return this.conditions(name)?.Ready;
  }

  /** Calls a worker. An answer comes when the test lets it: `emulators.onCall`, `emulators.answerAll`. */
  invoke(change: Partial<Invocation> & { readonly name?: string } = {}): Promise<InvocationResult> {
    const { name = 'hello', ...rest } = change;
    this.#requests += 1;
    return this.fleet.invoke({
      uid: `uid-of-${name}`,
      epoch: 1,
      requestId: `request-${this.#requests}`,
      payload: Buffer.from('{}'),
      clientContext: '',
      tailLog: false,
      signal: new AbortController().signal,
      onHead: () => undefined,
      onChunk: () => undefined,
      ...rest,
    });
  }
}

/** Runtime in the agent's view: silent once the agent was killed. */
function mortalRuntime(runtime: FakeRuntime, life: { readonly killed: boolean }): ContainerRuntime {
  return new Proxy<ContainerRuntime>(runtime, {
    get(target, property: keyof ContainerRuntime) {
      if (property === 'subscribe') {
        return (listener: (event: RuntimeEvent) => void) =>
          target.subscribe((event) => {
            if (!life.killed) {
              listener(event);
            }
          });
      }
      return (...args: never[]) => {
        if (life.killed) {
          return new Promise(() => undefined);
        }
        const outcome = (target[property] as (...rest: never[]) => unknown).apply(target, args);
        return outcome instanceof Promise
          ? new Promise((resolve, reject) => {
              outcome.then(
                (value: unknown) => life.killed || resolve(value),
                (error: unknown) => life.killed || reject(error as Error),
              );
            })
          : outcome;
      };
    },
  });
}

/** Inits in the agent's view: silent once the agent was killed. */
function mortalInits(inits: FakeInits, life: { readonly killed: boolean }): Pick<FakeInits, 'link' | 'subscribe'> {
  return {
    link: (containerId) => inits.link(containerId),
    subscribe: (listener) =>
      inits.subscribe((news) => {
        if (!life.killed) {
          listener(news);
        }
      }),
  };
}

/** A clock whose timers do not fire any more once the agent was killed. */
function mortalClock(clock: ManualClock, life: { readonly killed: boolean }): Clock {
  return {
    now: () => clock.now(),
    monotonic: () => clock.monotonic(),
    setTimer: (callback, delayMs) => clock.setTimer(() => life.killed || callback(), delayMs),
  };
}
