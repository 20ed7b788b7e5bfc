import { chmod, open, readlink, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Home } from '../../local/common/home.ts';
import { identify, isRunning, type ProcessIdentity, signalProcess } from '../../local/common/process-table.ts';
import { instanceCgroup } from '../../local/instance/parts.ts';
import { readPartRecord } from '../../local/supervisor/supervised-part.ts';
import { errnoOf, unreachable } from '../../src/common/errors.ts';
import { type HungShim, HungShims } from './hung-shims.ts';
import { type Fault, type FaultKind, faultText, type PluginFault, type Target } from './step.ts';
import { isStopped, processesBeside, processOfContainer, shimOf } from './worker-processes.ts';

/** A fault that was done, for the history and for excuses. */
export interface DoneFault {
  readonly fault: Fault;
  readonly from: number;
  to: number;
}

/** Where a worker is, as its status has it. */
export interface Place {
  readonly node: string;
  readonly container: string;
}

export interface FaultsOptions {
  readonly home: Home;
  readonly placeOf: (worker: string) => Promise<Place | undefined>;
  /** Offset of the false clocks, by the library that these parts are started with. */
  readonly clockFile: string;
  readonly note: (text: string) => void;
}

/** How long a worker may take until it has the process that a fault is for. */
const FOUND_WITHIN_MS = 60_000;
const LOOK_EVERY_MS = 500;
/**
 * How long an outage waits for what is done to the same containerd. Longer ones, such as another outage, leave it out.
 */
const FREE_WITHIN_MS = 10_000;

/**
 * From how many on one fault of a kind at least has to be done. Those that come by chance may all miss in a short walk.
 */
const FEWEST_PLANNED: Readonly<Record<FaultKind, number>> = {
  kill: 5,
  stop: 5,
  plugin: 2,
  disk: 2,
  clock: 2,
  init: 5,
  hang: 1,
  outage: 1,
};

type Shim = Pick<HungShim, 'node' | 'process' | 'shim'>;

/** Does faults to real parts, and undoes them. */
export class Faults {
  /** Shims that were stopped for good. Healing does not end that. */
  readonly hung: HungShims;
  readonly #options: FaultsOptions;
  readonly #done: DoneFault[] = [];
  readonly #planned = new Map<FaultKind, number>();
  readonly #running = new Set<Promise<void>>();
  readonly #busy = new Set<string>();
  /** Outages that did not last as long as they were to. */
  readonly #cutOff: string[] = [];
  readonly #healing = new AbortController();
  readonly #cutting = new AbortController();

  constructor(options: FaultsOptions) {
    this.#options = options;
    this.hung = new HungShims(options.note);
  }

  get done(): readonly DoneFault[] {
    return this.#done;
  }

  /** Workers of which a process was killed. */
  killed(): ReadonlySet<string> {
    return new Set(
      this.#done.flatMap(({ fault }) => {
        if (fault.kind === 'init') {
          return [fault.worker];
        }
        return fault.kind === 'kill' && fault.target.kind === 'worker' ? [fault.target.worker] : [];
      }),
    );
  }

  /**
   * Begins a fault in the background. Where it finds nothing to do it to, or one like it still lasts, the history says
   * so.
   */
  start(fault: Fault): void {
    this.#planned.set(fault.kind, (this.#planned.get(fault.kind) ?? 0) + 1);
    const running = this.#do(fault).catch((error: unknown) => this.#leaveOut(fault, String(error)));
    this.#running.add(running);
    void running.finally(() => this.#running.delete(running));
  }

  /** Ends every fault now, but outages, which last as long as they are to, and shims that are stopped for good. */
  async heal(): Promise<void> {
    this.#healing.abort();
    while (this.#running.size > 0) {
      await Promise.all(this.#running);
    }
  }

  /** Ends outages too, and heals. */
  async cutShort(): Promise<void> {
    this.#cutting.abort();
    await this.heal();
  }

  /** How many faults of each kind were done, of how many. */
  summary(): string {
    const counts = [...this.#planned].map(([kind, planned]) => `${kind} ${this.#count(kind)} of ${planned}`);
    return `faults done: ${counts.join(', ') || 'none'}`;
  }

  /** Kinds of faults that the walk was to do, and never did. A walk without them shows nothing of them. */
  verdicts(): readonly string[] {
    return [...this.#planned]
      .filter(([kind, planned]) => planned >= FEWEST_PLANNED[kind] && this.#count(kind) === 0)
      .map(([kind, planned]) => `none of ${planned} faults of the kind ${kind} was done`)
      .concat(this.#cutOff);
  }

  #count(kind: FaultKind): number {
    return this.#done.filter(({ fault }) => fault.kind === kind).length;
  }

  #leaveOut(fault: Fault, why: string): void {
    this.#options.note(`left out: ${faultText(fault)}: ${why}`);
  }

  async #do(fault: Fault): Promise<void> {
    const what = subject(fault);
    if (fault.kind === 'outage') {
      await this.#untilFree(fault, what);
    }
    if (this.#busy.has(what)) {
      this.#leaveOut(fault, 'one like it still lasts');
      return;
    }
    this.#busy.add(what);
    try {
      switch (fault.kind) {
        case 'kill':
          return await this.#kill(fault);
        case 'stop':
          return await this.#stop(fault, fault.target, () => this.#for(fault.forMs));
        case 'plugin':
          return await this.#plugin(fault);
        case 'disk':
          return await this.#disk(fault);
        case 'clock':
          return await this.#clock(fault);
        case 'init':
          return await this.#init(fault);
        case 'hang':
          return await this.#hang(fault);
        case 'outage':
          return await this.#stop(fault, { kind: 'containerd', node: fault.node }, () =>
            wait(fault.forMs, this.#cutting.signal),
          );
        default:
          return unreachable(fault);
      }
    } finally {
      this.#busy.delete(what);
    }
  }

  /**
   * Waits for a moment until containerd of a node runs and nothing else is done to it: an outage is too rare to miss.
   */
  async #untilFree({ node }: Extract<Fault, { kind: 'outage' }>, what: string): Promise<void> {
    const end = performance.now() + FREE_WITHIN_MS;
    while (
      performance.now() < end &&
      !this.#healing.signal.aborted &&
      (this.#busy.has(what) || (await this.#part(`containerd-${node}`)) === undefined)
    ) {
      await this.#for(LOOK_EVERY_MS);
    }
  }

  /** Notes a fault as done for as long as `body` takes. */
  async #during(fault: Fault, body: () => Promise<void>): Promise<void> {
    const done: DoneFault = { fault, from: performance.now(), to: Number.POSITIVE_INFINITY };
    this.#done.push(done);
    try {
      await body();
    } finally {
      done.to = performance.now();
    }
  }

  /** Waits, or until everything is to be healed. */
  async #for(milliseconds: number): Promise<void> {
    await wait(milliseconds, this.#healing.signal);
  }

  async #kill(fault: Extract<Fault, { kind: 'kill' }>): Promise<void> {
    const target = await this.#processOf(fault.target);
    if (target === undefined) {
      this.#leaveOut(fault, 'there is no such process');
      return;
    }
    await this.#during(fault, () => signalProcess(target, 'SIGKILL'));
  }

  async #stop(fault: Fault, what: Target, until: () => Promise<void>): Promise<void> {
    const target = await this.#processOf(what);
    if (target === undefined || this.hung.has(target)) {
      this.#leaveOut(fault, target === undefined ? 'there is no such process' : 'stopped for good before');
      return;
    }
    await this.#during(fault, async () => {
      await signalProcess(target, 'SIGSTOP');
      try {
        await until();
        if (fault.kind === 'outage' && !(await isStopped(target))) {
          this.#cutOff.push(`${faultText(fault)} was ended by somebody else`);
        }
      } finally {
        await signalProcess(target, 'SIGCONT');
      }
    });
  }

  async #hang(fault: Extract<Fault, { kind: 'hang' }>): Promise<void> {
    const found = await this.#until(() => this.#shimOf(fault.worker));
    if (found === undefined || this.hung.has(found.shim)) {
      this.#leaveOut(fault, found === undefined ? 'there is no such process' : 'stopped for good before');
      return;
    }
    const done: DoneFault = { fault, from: performance.now(), to: Number.POSITIVE_INFINITY };
    await signalProcess(found.shim, 'SIGSTOP');
    this.#done.push(done);
    this.hung.add({ worker: fault.worker, ...found, done });
  }

  async #init(fault: Extract<Fault, { kind: 'init' }>): Promise<void> {
    const targets = await this.#until(() => this.#targetsOf(fault));
    if (targets === undefined) {
      this.#leaveOut(fault, 'there is no such process');
      return;
    }
    await this.#during(fault, async () => {
      await Promise.all(targets.map((each) => signalProcess(each, 'SIGKILL')));
    });
  }

  async #targetsOf({ how, worker }: Extract<Fault, { kind: 'init' }>): Promise<readonly ProcessIdentity[] | undefined> {
    const found = await this.#workerOf(worker);
    if (found === undefined || how === 'alone') {
      return found === undefined ? undefined : [found.process];
    }
    if (how === 'with-agent') {
      const agent = await this.#part(`agent-${found.node}`);
      return agent === undefined ? undefined : [agent, found.process];
    }
    const [oldest] = await processesBeside(found.process.pid);
    const runtime = oldest === undefined ? undefined : await identify(oldest);
    return runtime === undefined ? undefined : [runtime];
  }

  async #processOf(target: Target): Promise<ProcessIdentity | undefined> {
    switch (target.kind) {
      case 'agent':
      case 'containerd':
        return this.#part(`${target.kind}-${target.node}`);
      case 'gateway':
      case 'controller':
        return this.#part(`${target.kind}-${target.number}`);
      case 'apiserver':
        return this.#part('apiserver');
      case 'worker':
        return (await this.#workerOf(target.worker))?.process;
      case 'shim':
        return (await this.#shimOf(target.worker))?.shim;
      default:
        return unreachable(target);
    }
  }

  /** The first process of a worker's container, and its node. */
  async #workerOf(worker: string): Promise<{ readonly node: string; readonly process: ProcessIdentity } | undefined> {
    const place = await this.#options.placeOf(worker);
    if (place === undefined) {
      return undefined;
    }
    const pid = await processOfContainer(instanceCgroup(this.#options.home), place.container);
    const process = pid === undefined ? undefined : await identify(pid);
    return process === undefined ? undefined : { node: place.node, process };
  }

  /** Finds processes of a worker that may be just about to be made, by an API server that may be away. */
  async #until<Found>(find: () => Promise<Found | undefined>): Promise<Found | undefined> {
    const end = performance.now() + FOUND_WITHIN_MS;
    for (;;) {
      const found = await find().catch(() => undefined);
      if (found !== undefined || this.#healing.signal.aborted || performance.now() > end) {
        return found;
      }
      await this.#for(LOOK_EVERY_MS);
    }
  }

  async #shimOf(worker: string): Promise<Shim | undefined> {
    const found = await this.#workerOf(worker);
    const pid = found === undefined ? undefined : await shimOf(found.process.pid);
    const shim = pid === undefined ? undefined : await identify(pid);
    return found === undefined || shim === undefined ? undefined : { ...found, shim };
  }

  async #part(name: string): Promise<ProcessIdentity | undefined> {
    const record = await readPartRecord(join(this.#options.home.run, `${name}.json`));
    const found = record?.process;
    return found !== undefined && (await isRunning(found)) ? found : undefined;
  }

  /** Puts a program in the place of a plugin, in one step, and the plugin back. */
  async #plugin(fault: Extract<Fault, { kind: 'plugin' }>): Promise<void> {
    const path = join(this.#options.home.bin, fault.plugin);
    const target = await readlink(path);
    const gate = join(this.#options.home.run, `chaos-${fault.plugin}`);
    await writeFile(gate, '');
    await writeFile(`${path}.chaos`, pluginScript(fault.how, target, gate));
    await chmod(`${path}.chaos`, 0o755);
    await this.#during(fault, async () => {
      await rename(`${path}.chaos`, path);
      try {
        await this.#for(fault.forMs);
      } finally {
        await rm(`${path}.chaos`, { force: true });
        await symlink(target, `${path}.chaos`);
        await rename(`${path}.chaos`, path);
        // A hanging program goes on now, as a plugin does that waited for a lock.
        await rm(gate, { force: true });
      }
    });
  }

  async #disk(fault: Extract<Fault, { kind: 'disk' }>): Promise<void> {
    const filler = join(this.#options.home.node(fault.node).agent, 'chaos-filler');
    await this.#during(fault, async () => {
      try {
        await fill(filler);
        await this.#for(fault.forMs);
      } finally {
        await rm(filler, { force: true });
      }
    });
  }

  async #clock(fault: Extract<Fault, { kind: 'clock' }>): Promise<void> {
    const { clockFile } = this.#options;
    await this.#during(fault, async () => {
      await writeFile(clockFile, `${fault.seconds >= 0 ? '+' : ''}${fault.seconds}`);
      try {
        await this.#for(fault.forMs);
      } finally {
        await writeFile(clockFile, '+0');
      }
    });
  }
}

/** Waits, until the signal aborts at most. */
async function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
  await delay(milliseconds, undefined, { signal }).catch(() => undefined);
}

/** Targets that get no second fault as long as the first one lasts. */
function subject(fault: Fault): string {
  switch (fault.kind) {
    case 'kill':
    case 'stop':
      return JSON.stringify(fault.target);
    case 'init':
      return JSON.stringify({ kind: 'worker', worker: fault.worker } satisfies Target);
    case 'hang':
      return JSON.stringify({ kind: 'shim', worker: fault.worker } satisfies Target);
    case 'outage':
      return JSON.stringify({ kind: 'containerd', node: fault.node } satisfies Target);
    case 'plugin':
    case 'disk':
    case 'clock':
      return fault.kind;
    default:
      return unreachable(fault);
  }
}

function pluginScript(how: PluginFault, plugin: string, gate: string): string {
  const refusal = `echo '{"cniVersion":"1.1.0","code":11,"msg":"try again later"}'; exit 1`;
  switch (how) {
    case 'fails':
      return `#!/bin/sh\ncat >/dev/null\n${refusal}\n`;
    case 'fails-late':
      return `#!/bin/sh\n'${plugin}' >/dev/null 2>&1\n${refusal}\n`;
    case 'hangs':
      return `#!/bin/sh\nwhile [ -e '${gate}' ]; do sleep 0.1; done\nexec '${plugin}'\n`;
    case 'garbage':
      return `#!/bin/sh\ncat >/dev/null\necho '{]'\n`;
    default:
      return unreachable(how);
  }
}

/** Writes until there is no room. */
async function fill(path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    for (let size = 1 << 20; size >= 1; size = Math.floor(size / 16)) {
      await writeUntilFull(file, Buffer.alloc(size));
    }
  } finally {
    await file.close();
  }
}

async function writeUntilFull(file: { write(data: Buffer): Promise<unknown> }, block: Buffer): Promise<void> {
  for (;;) {
    try {
      await file.write(block);
    } catch (error) {
      if (errnoOf(error) === 'ENOSPC') {
        return;
      }
      throw error;
    }
  }
}
