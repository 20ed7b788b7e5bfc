import type { WorkerAnswer, WorkerLink, WorkerRequest } from '../../src/agent/invoke/emulator-client.ts';
import type { RuntimeEvent, WorkerAddress } from '../../src/runtime/contract/runtime.ts';
import type { Random } from '../chaos/random.ts';
import type { FakeRuntime } from '../support/fake-runtime.ts';
import type { AgentLife } from './agent-life.ts';
import type { SimulatedClock } from './simulated-clock.ts';

/** A call from its first byte to the moment in which nothing runs for it any more. */
export interface LiveCall {
  readonly requestId: string;
  readonly process: WorkerProcess;
  readonly life: AgentLife;
  /** Monotonic milliseconds. */
  readonly sentAt: number;
  /** Monotonic milliseconds at which its time is over. */
  readonly until: number;
  /** The answer that its agent got; undefined while the agent waits. */
  told: WorkerAnswer['kind'] | undefined;
  /** Its connection breaks. */
  breaks: () => void;
}

/** The process of a container, from its start to its end. */
export interface WorkerProcess {
  readonly containerId: string;
  readonly uid: string;
  readonly shapeHash: string;
  readonly pid: number;
  readonly ip: string;
  listening: boolean;
  /** Ignores SIGTERM. */
  readonly stubborn: boolean;
  /** Somebody else has frozen it. */
  foreignFrozen: boolean;
  /** Monotonic milliseconds since when it could have taken a call. */
  idleSince: number | undefined;
  call: LiveCall | undefined;
}

/** Hears of events in workers. */
export interface ProcessWatcher {
  /** The first byte of a call arrives, after everything that its agent does before. */
  sent(call: LiveCall): void;
  /** A call could not be sent for want of something that is the node's. */
  unsent(requestId: string): void;
  /** An agent got the answer of a call. */
  told(call: LiveCall): void;
  /** The worker has answered a call, with or without an agent that still listens. */
  answered(call: LiveCall): void;
  violation(text: string): void;
  note(text: string): void;
}

export interface WorkerProcessesOptions {
  readonly runtime: FakeRuntime;
  readonly clock: SimulatedClock;
  readonly random: Random;
  readonly watcher: ProcessWatcher;
}

const fates = { answer: 84, slow: 4, silent: 2, reset: 3, exit: 3, oom: 1, cutOff: 2 } as const;

/** All processes of the node, and the calls in them. */
export class WorkerProcesses {
  readonly byId = new Map<string, WorkerProcess>();
  readonly #byIp = new Map<string, WorkerProcess>();
  readonly #options: WorkerProcessesOptions;
  /** Connections that are refused for want of descriptors, or by a full backlog. */
  refusals = 0;
  /** Calls end by themselves, and well. */
  calm = false;

  constructor(options: WorkerProcessesOptions) {
    this.#options = options;
    options.runtime.subscribe((event) => this.#heard(event));
  }

  get live(): readonly LiveCall[] {
    return [...this.byId.values()].flatMap(({ call }) => call ?? []);
  }

  /** The process of a container ends by itself. */
  exit(containerId: string, exitCode: number, oomKilled: boolean): void {
    const { clock, runtime } = this.#options;
    const info = runtime.containers.get(containerId);
    if (info?.task.kind !== 'Running' && info?.task.kind !== 'Paused') {
      return;
    }
    if (runtime.hung.has(containerId)) {
      // Its shim reports nothing.
      const exitedAt = new Date(clock.now());
      runtime.put({ ...info, task: { kind: 'Stopped', exitCode, oomKilled, exitedAt } });
      this.#end(containerId);
      return;
    }
    if (oomKilled) {
      runtime.emit({ kind: 'OutOfMemory', containerId });
    }
    runtime.exit(containerId, exitCode, oomKilled);
  }

  /** The machine starts again: nothing runs any more. */
  reboot(): void {
    for (const containerId of [...this.byId.keys()]) {
      this.#end(containerId);
    }
  }

  /** The port of a process opens. */
  opened(containerId: string): void {
    const process = this.byId.get(containerId);
    if (process !== undefined) {
      process.listening = true;
      this.#rest(process);
    }
  }

  /** The way of one agent to a worker. */
  connect(life: AgentLife, address: WorkerAddress): WorkerLink {
    const ends = new Set<(answer: WorkerAnswer) => void>();
    const abort = (message: string): void => {
      for (const end of [...ends]) {
        end({ kind: 'Unknown', message });
      }
    };
    return {
      abort,
      close: () => abort('the connection was closed'),
      call: (request) =>
        new Promise((resolve) => {
          if (!life.alive) {
            return;
          }
          const process = this.#byIp.get(address.ip);
          if (this.refusals > 0) {
            this.refusals -= 1;
            this.#options.watcher.unsent(request.requestId);
            resolve({ kind: 'NotSent', message: 'EMFILE', own: true });
          } else if (process === undefined || !process.listening) {
            this.#options.watcher.unsent(request.requestId);
            resolve({ kind: 'NotSent', message: 'connection refused' });
          } else {
            this.#arrive(life, process, request, ends, resolve);
          }
        }),
    };
  }

  #arrive(
    life: AgentLife,
    process: WorkerProcess,
    request: WorkerRequest,
    ends: Set<(answer: WorkerAnswer) => void>,
    resolve: (answer: WorkerAnswer) => void,
  ): void {
    const { clock, runtime, watcher } = this.#options;
    request.onSending();
    if (!life.spend('the first byte')) {
      return;
    }
    const { containerId } = process;
    const { call: inside } = process;
    const isUnmarked = inside !== undefined && inside.life !== life && inside.requestId.startsWith('warm-up');
    if (inside !== undefined && !isUnmarked) {
      watcher.violation(`${request.requestId} was sent into ${containerId} beside ${inside.requestId}`);
    }
    if (runtime.taskOf(containerId) === 'Paused' && !process.foreignFrozen) {
      watcher.violation(`${request.requestId} was sent into ${containerId}, which is frozen`);
    }
    const call: LiveCall = {
      requestId: request.requestId,
      process,
      life,
      sentAt: clock.monotonic(),
      until: clock.monotonic() + request.timeoutMs,
      told: undefined,
      breaks: () => end({ kind: 'Unknown', message: 'reset' }),
    };
    process.call = call;
    process.idleSince = undefined;
    watcher.sent(call);
    const timer = life.clock.setTimer(() => end({ kind: 'TimedOut' }), request.timeoutMs);
    const end = (answer: WorkerAnswer): void => {
      if (ends.delete(end) && life.alive) {
        timer.cancel();
        call.told = answer.kind;
        watcher.told(call);
        resolve(answer);
      }
    };
    ends.add(end);
    this.#run(call, request, end);
  }

  #run(call: LiveCall, request: WorkerRequest, end: (answer: WorkerAnswer) => void): void {
    const { random, watcher } = this.#options;
    const fate = this.calm ? 'answer' : random.weighted(fates);
    const afterMs = fate === 'slow' ? random.between(3_000, 13_000) : this.#runsFor();
    const answer = (): void => {
      if (call.told === undefined && call.life.alive) {
        request.onHead({ status: 200, contentType: 'application/json' });
        request.onChunk(Buffer.from(`"${call.requestId}"`));
      }
      watcher.answered(call);
      this.#over(call);
      end({ kind: 'Answered', status: 200 });
    };
    switch (fate) {
      case 'answer':
      case 'slow':
        this.#after(call, afterMs, answer);
        return;
      case 'silent':
        return;
      case 'reset':
        this.#after(call, afterMs, () => {
          this.#over(call);
          end({ kind: 'Unknown', message: 'reset' });
        });
        return;
      case 'exit':
      case 'oom':
        this.#after(call, afterMs, () => {
          watcher.note(`${call.process.containerId} exits in a call`);
          this.#over(call);
          this.exit(call.process.containerId, fate === 'oom' ? 137 : 1, fate === 'oom');
          end({ kind: 'Unknown', message: 'reset' });
        });
        return;
      case 'cutOff':
        this.#after(call, afterMs, () => {
          watcher.answered(call);
          end({ kind: 'CutOff', status: 200 });
        });
        return;
      default:
        fate satisfies never;
    }
  }

  #runsFor(): number {
    const { random } = this.#options;
    return random.chance(0.5) ? 0 : random.between(1, random.chance(0.3) ? 2_500 : 60);
  }

  /** Goes on when the process has had its time: one that is frozen goes on once it is thawed. */
  #after(call: LiveCall, ms: number, go: () => void): void {
    const { clock, runtime } = this.#options;
    const { process } = call;
    const due = (): void => {
      if (process.call !== call) {
        return;
      }
      if (runtime.taskOf(process.containerId) === 'Paused') {
        clock.setTimer(due, 500);
      } else {
        go();
      }
    };
    if (ms === 0) {
      queueMicrotask(due);
    } else {
      clock.setTimer(due, ms);
    }
  }

  /** Nothing runs for the call any more; the emulator writes its last line. */
  #over(call: LiveCall): void {
    const { runtime } = this.#options;
    const { process, requestId } = call;
    if (process.call !== call) {
      return;
    }
    process.call = undefined;
    this.#rest(process);
    const log = runtime.logs.get(process.containerId) ?? '';
    const end = `END RequestId: ${requestId}\nREPORT RequestId: ${requestId}\tDuration: 1.00 ms\n`;
    runtime.logs.set(process.containerId, (log.length > 8_192 ? log.slice(-1_024) : log) + end);
  }

  #rest(process: WorkerProcess): void {
    process.idleSince = process.listening ? this.#options.clock.monotonic() : undefined;
  }

  #heard({ containerId, kind }: RuntimeEvent): void {
    const { random, runtime } = this.#options;
    const info = runtime.containers.get(containerId);
    if (kind === 'Created' && info?.task.kind === 'Running') {
      const process: WorkerProcess = {
        containerId,
        uid: info.identity.uid,
        shapeHash: info.shapeHash,
        pid: info.task.pid,
        ip: info.address?.ip ?? '',
        listening: false,
        stubborn: random.chance(0.1),
        foreignFrozen: false,
        idleSince: undefined,
        call: undefined,
      };
      this.byId.set(containerId, process);
      this.#byIp.set(process.ip, process);
    } else if (kind === 'Resumed') {
      const process = this.byId.get(containerId);
      if (process !== undefined) {
        process.foreignFrozen = false;
        if (process.call === undefined) {
          this.#rest(process);
        }
      }
    } else if (kind === 'Exited') {
      this.#end(containerId);
    }
  }

  /** The process is gone, and with it the call in it. */
  #end(containerId: string): void {
    const process = this.byId.get(containerId);
    if (process === undefined) {
      return;
    }
    this.byId.delete(containerId);
    if (this.#byIp.get(process.ip) === process) {
      this.#byIp.delete(process.ip);
    }
    const { call } = process;
    process.call = undefined;
    if (call !== undefined) {
      // Its agent hears of the exit before, after or in the same moment.
      this.#options.clock.setTimer(() => call.breaks(), this.#options.random.between(0, 3));
    }
  }
}
