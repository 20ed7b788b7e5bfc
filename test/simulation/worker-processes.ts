import type { WorkerAnswer, WorkerLink, WorkerRequest } from '../../src/agent/invoke/emulator-client.ts';
import type { InitAnswer, InitEnd, InitOutcome, InitPhase, InitRequest } from '../../src/init/contract.ts';
import type { RuntimeEvent, WorkerAddress } from '../../src/runtime/contract/runtime.ts';
import type { Random } from '../chaos/random.ts';
import type { FakeRuntime } from '../support/fake-runtime.ts';
import type { AgentLife } from './agent-life.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import { SimulatedInits } from './simulated-inits.ts';

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
  told: WorkerAnswer['kind'] | 'Ended' | undefined;
  /** Its connection breaks. */
  breaks: () => void;
  /** Its agent waits for it no more, where it has that id. */
  abort: (requestId: string, message: string, isKept: boolean) => void;
  /** Its init throws the answer away. */
  forgotten: boolean;
  /** The answer so far, as an init has it. */
  readonly parts: string[];
  readonly streaming: boolean;
  /** Parts of it that the agent has taken that sent the call. */
  passed: number;
  /** Its init throws away what its agent has taken. */
  readonly isLarge: boolean;
  /** As its init tells it. */
  ended: InitEnd | undefined;
  /** A later agent takes its answer. */
  asker: Asker | undefined;
  /** Its runtime ends. */
  exits: () => void;
}

/** An agent that has asked for the answer of a call that was sent by an earlier one. */
export interface Asker {
  readonly life: AgentLife;
  readonly onPart: (part: string) => void;
  readonly onEnd: (answer: InitAnswer) => void;
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
  readonly calls: Map<string, LiveCall>;
  /** Calls that it takes at once. */
  readonly places: number;
  /** Places that calls hold which ran out of time. */
  held: number;
  /** Calls that its init remembers, by request id. */
  readonly remembered: Map<string, LiveCall>;
  /** Request ids of all calls that its init has had. */
  readonly had: Set<string>;
  /** Monotonic milliseconds since when its init knows that all calls of the worker come to it. */
  aloneSince: number | undefined;
  /** Whether it is the init of a worker. */
  readonly isInit: boolean;
  /** As its init has it. */
  phase: InitPhase;
  /** An extension goes on after a call. */
  lingers: boolean;
  restarts: number;
  onConnected: () => void;
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
  /** Calls whose time is over hold half of the places of a worker. */
  worn(process: WorkerProcess): void;
  /** The init of a worker has failed, and ends. */
  failed(process: WorkerProcess): void;
  violation(text: string): void;
  note(text: string): void;
}

export interface WorkerProcessesOptions {
  readonly runtime: FakeRuntime;
  readonly clock: SimulatedClock;
  readonly random: Random;
  readonly watcher: ProcessWatcher;
}

/** The emulator's answer, or the end that an init tells. */
type Told = WorkerAnswer | { readonly kind: 'Ended'; readonly end: InitEnd };

/** The part of a call that both ways to a worker have. */
type Call = Pick<WorkerRequest, 'requestId' | 'timeoutMs' | 'onSending' | 'onChunk'> & {
  readonly onHead: (streaming: boolean) => void;
};

const initFates = {
  answer: 60,
  stream: 12,
  broken: 2,
  lingers: 8,
  endless: 2,
  slow: 4,
  silent: 1,
  timeout: 3,
  exited: 4,
  exit: 2,
  oom: 1,
  lost: 1,
} as const;
/** Milliseconds for which an init remembers a call whose answer an agent has. */
const KEPT_MS = 500;
/** Milliseconds of a call of the simulation. */
const TIMEOUT_MS = 3_000;
const fates = { answer: 84, slow: 4, silent: 2, reset: 3, exit: 3, oom: 1, cutOff: 2 } as const;

/** Calls that workers of that name take at once, where they have an init. */
export function placesOf(name: string): number {
  return { w4: 3, w5: 2 }[name] ?? 1;
}

/** All processes of the node, and the calls in them. */
export class WorkerProcesses {
  readonly byId = new Map<string, WorkerProcess>();
  readonly #byIp = new Map<string, WorkerProcess>();
  readonly #options: WorkerProcessesOptions;
  /** Connections that are refused for want of descriptors, or by a full backlog. */
  refusals = 0;
  /** Calls end by themselves, and well. */
  calm = false;
  #inits: SimulatedInits | undefined;

  constructor(options: WorkerProcessesOptions) {
    this.#options = options;
    options.runtime.subscribe((event) => this.#heard(event));
  }

  get live(): readonly LiveCall[] {
    return [...this.byId.values()].flatMap(({ calls }) => [...calls.values()]);
  }

  /** A call that an init remembers. */
  heldCall(requestId: string): LiveCall | undefined {
    return [...this.byId.values()]
      .map(({ remembered }) => remembered.get(requestId))
      .find((call) => call !== undefined);
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
      process.phase = 'Ready';
      if (process.isInit) {
        this.#inits?.connect(process);
      }
      this.#rest(process);
    }
  }

  /** The inits as an agent hears them that starts now. */
  initsOf(life: AgentLife): SimulatedInits {
    const { clock, random, runtime } = this.#options;
    const inits = new SimulatedInits({
      life,
      runtime,
      clock,
      random,
      processOf: (containerId) => this.byId.get(containerId),
      call: (process, request) => this.#callInit(life, process, request),
    });
    this.#inits = inits;
    for (const process of this.byId.values()) {
      if (process.isInit) {
        process.idleSince = undefined;
        inits.seek(process);
      }
    }
    return inits;
  }

  /** The init of a process loses its agent for a moment. */
  loseInit(process: WorkerProcess): void {
    for (const call of process.calls.values()) {
      call.breaks();
    }
    process.idleSince = undefined;
    this.#inits?.lose(process);
    this.#inits?.seek(process);
  }

  /** The runtime of a worker ends, and is started again by the init, or not. */
  restart(process: WorkerProcess): void {
    const { clock, random, watcher } = this.#options;
    const { containerId } = process;
    if (process.phase !== 'Ready') {
      return;
    }
    process.phase = 'Starting';
    for (const call of [...process.calls.values()]) {
      call.exits();
    }
    process.lingers = false;
    process.held = 0;
    process.idleSince = undefined;
    process.restarts += 1;
    this.#inits?.tell(process);
    const fails = !this.calm && random.chance(0.1);
    this.#later(process, random.between(5, 2_000), () => {
      process.phase = fails ? 'Failed' : 'Ready';
      if (fails) {
        watcher.failed(process);
        clock.setTimer(() => this.byId.get(containerId) === process && this.exit(containerId, 1, false), 900);
      } else {
        this.#rest(process);
      }
      this.#inits?.tell(process);
    });
  }

  #callInit(life: AgentLife, process: WorkerProcess, request: InitRequest): Promise<InitAnswer> {
    const { random, watcher } = this.#options;
    const { containerId } = process;
    if (process.phase !== 'Ready') {
      watcher.violation(`${request.requestId} was sent into ${containerId}, which is ${process.phase}`);
    }
    if (!this.calm && random.chance(0.02)) {
      request.onSending();
      watcher.unsent(request.requestId);
      const end = { outcome: 'NotStarted', message: 'the worker is ending', size: 0, durationUs: 0 } as const;
      return Promise.resolve({ kind: 'Ended', end });
    }
    return new Promise((resolve) => {
      const settle = (answer: Told): void => {
        switch (answer.kind) {
          case 'NotSent':
            resolve({ kind: 'NotSent', message: answer.message, own: false });
            return;
          case 'Unknown':
            resolve(answer);
            return;
          case 'TimedOut':
            resolve({ kind: 'Silent' });
            return;
          case 'Ended':
            resolve(answer);
            return;
          case 'Answered':
          case 'CutOff':
            watcher.violation(`an init tells ${answer.kind}`);
            return;
          default:
            answer satisfies never;
        }
      };
      const onHead = (streaming: boolean): void => request.onHead({ contentType: 'application/json', streaming });
      this.#arrive(life, process, { ...request, timeoutMs: request.boundMs, onHead }, new Set(), settle);
    });
  }

  /** The way of one agent to a worker. */
  connect(life: AgentLife, address: WorkerAddress): WorkerLink {
    const ends = new Set<(answer: Told) => void>();
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
            const onHead = (): void => request.onHead({ status: 200, contentType: 'application/json' });
            this.#arrive(life, process, { ...request, onHead }, ends, (told) => resolve(told as WorkerAnswer));
          }
        }),
    };
  }

  #arrive(
    life: AgentLife,
    process: WorkerProcess,
    request: Call,
    ends: Set<(answer: Told) => void>,
    resolve: (answer: Told) => void,
  ): void {
    const { clock, runtime, watcher } = this.#options;
    request.onSending();
    if (!life.spend('the first byte')) {
      return;
    }
    const { containerId } = process;
    const [inside] = process.calls.values();
    const isUnmarked =
      !process.isInit && inside !== undefined && inside.life !== life && inside.requestId.startsWith('warm-up');
    if (inside !== undefined && !isUnmarked && process.calls.size >= process.places - process.held) {
      const others = [...process.calls.keys()].join(', ');
      watcher.violation(`${request.requestId} was sent into ${containerId} beside ${others}`);
    }
    if (runtime.taskOf(containerId) === 'Paused' && !process.foreignFrozen) {
      watcher.violation(`${request.requestId} was sent into ${containerId}, which is frozen`);
    }
    const fate = this.#fateOf(process);
    const call: LiveCall = {
      requestId: request.requestId,
      process,
      life,
      sentAt: clock.monotonic(),
      until: clock.monotonic() + request.timeoutMs,
      told: undefined,
      breaks: () => end({ kind: 'Unknown', message: 'reset' }),
      abort: (requestId, message, isKept) => {
        if (requestId === request.requestId && call.told === undefined) {
          call.forgotten = !isKept;
          end({ kind: 'Unknown', message });
        }
      },
      forgotten: false,
      parts: [],
      streaming: fate === 'stream' || fate === 'broken',
      passed: 0,
      isLarge: process.isInit && this.#options.random.chance(0.2),
      ended: undefined,
      asker: undefined,
      exits: () => undefined,
    };
    if (!process.isInit) {
      process.calls.clear();
    }
    process.calls.set(request.requestId, call);
    if (process.isInit) {
      process.remembered.set(request.requestId, call);
      process.had.add(request.requestId);
    }
    process.idleSince = undefined;
    watcher.sent(call);
    const timer = life.clock.setTimer(() => end({ kind: 'TimedOut' }), request.timeoutMs);
    const end = (answer: Told): void => {
      if (ends.delete(end) && life.alive) {
        timer.cancel();
        call.told = answer.kind;
        if (answer.kind === 'Ended') {
          clock.setTimer(() => forget(call), KEPT_MS);
        }
        watcher.told(call);
        resolve(answer);
      }
    };
    ends.add(end);
    this.#run(call, fate, request, end);
  }

  #fateOf(process: WorkerProcess): keyof typeof fates | keyof typeof initFates {
    const { random } = this.#options;
    if (this.calm) {
      return 'answer';
    }
    return process.isInit ? random.weighted(initFates) : random.weighted(fates);
  }

  #run(
    call: LiveCall,
    fate: keyof typeof fates | keyof typeof initFates,
    request: Call,
    end: (answer: Told) => void,
  ): void {
    const { random, watcher } = this.#options;
    const { process } = call;
    // An init ends a call itself that takes too long.
    const afterMs = fate !== 'slow' ? this.#runsFor() : process.isInit ? 2_900 : random.between(3_000, 13_000);
    if (process.isInit) {
      queueMicrotask(() => this.#inits?.tell(process));
    }
    const say = (part: string): void => {
      const isFirst = call.parts.push(part) === 1;
      if (call.told === undefined && call.life.alive) {
        if (isFirst) {
          request.onHead(call.streaming);
        }
        call.passed += 1;
        request.onChunk(Buffer.from(part));
      }
      if (call.asker?.life.alive === true) {
        call.asker.onPart(part);
      }
    };
    /** An init knows the end, and tells it to whom it may concern once it has restarted what has to be. */
    const tell = (outcome: InitOutcome, more: Partial<InitEnd> = {}, before = (): void => undefined): void => {
      const told = {
        kind: 'Ended',
        end: { outcome, size: call.parts.join('').length, durationUs: 1, ...more },
      } as const;
      call.ended = told.end;
      this.#over(call);
      before();
      if (call.asker?.life.alive === true) {
        call.asker.onEnd(told);
      }
      end(told);
    };
    call.exits = () => tell('Exited', { message: 'another call ended the runtime' });
    const answer = (rest = `"${call.requestId}"`): void => {
      say(rest);
      watcher.answered(call);
      process.lingers = fate === 'lingers' || fate === 'endless';
      if (process.isInit) {
        tell('Answered');
      } else {
        this.#over(call);
        end({ kind: 'Answered', status: 200 });
      }
    };
    switch (fate) {
      case 'stream':
        this.#after(call, afterMs, () => {
          say('"');
          this.#after(call, random.between(1, 400), () => {
            say(call.requestId);
            this.#after(call, random.between(1, 400), () => answer('"'));
          });
        });
        return;
      case 'broken':
        this.#after(call, afterMs, () => {
          say(`"${call.requestId}`);
          this.#after(call, random.between(1, 400), () => {
            watcher.answered(call);
            tell('Error', { errorType: 'Broken', errorBody: JSON.stringify({ errorType: 'Broken' }) });
          });
        });
        return;
      case 'endless':
        this.#after(call, afterMs, () => {
          answer();
          this.#endAt(process, call.sentAt + TIMEOUT_MS);
        });
        return;
      case 'answer':
      case 'slow':
        this.#after(call, afterMs, () => answer());
        return;
      case 'lingers':
        this.#after(call, afterMs, () => {
          answer();
          this.#later(process, random.between(100, 8_000), () => {
            process.lingers = false;
            this.#inits?.tell(process);
          });
        });
        return;
      case 'silent':
        if (process.isInit) {
          // Later than any agent waits that knows the time of the call.
          this.#after(call, 60_000, () => tell('Timeout'));
        }
        return;
      case 'timeout':
      case 'exited': {
        const outcome = fate === 'timeout' ? 'Timeout' : 'Exited';
        this.#after(call, fate === 'timeout' ? TIMEOUT_MS : afterMs, () => {
          const isTold = fate === 'timeout' && process.places > 1;
          tell(outcome, { message: fate }, () => (isTold ? this.#hold(process) : this.restart(process)));
        });
        return;
      }
      case 'lost':
        this.#after(call, afterMs, () => this.loseInit(process));
        this.#after(call, TIMEOUT_MS, () => tell('Timeout'));
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

  /** A call whose time is over holds its place, until its runtime has done with it. */
  #hold(process: WorkerProcess): void {
    process.held += 1;
    if (process.held * 2 >= process.places) {
      this.#options.watcher.worn(process);
    }
    this.#rest(process);
    this.#inits?.tell(process);
    this.#later(process, this.#options.random.between(100, 20_000), () => {
      process.held = Math.max(0, process.held - 1);
      this.#rest(process);
      this.#inits?.tell(process);
    });
  }

  /** An extension that never waits is ended at the deadline of the last call, and its runtime with it. */
  #endAt(process: WorkerProcess, at: number): void {
    this.#later(process, Math.max(1, at - this.#options.clock.monotonic()), () => {
      if (!process.lingers) {
        return;
      }
      const last = Math.max(...[...process.calls.values()].map(({ sentAt }) => sentAt));
      if (process.calls.size === 0) {
        this.restart(process);
      } else {
        this.#endAt(process, last + TIMEOUT_MS);
      }
    });
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
      if (process.calls.get(call.requestId) !== call) {
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
    if (process.calls.get(requestId) !== call) {
      return;
    }
    process.calls.delete(requestId);
    call.ended ??= { outcome: 'Timeout', size: 0, durationUs: 1 };
    if (call.forgotten) {
      forget(call);
    }
    this.#rest(process);
    if (process.isInit) {
      this.#inits?.tell(process);
    }
    const log = runtime.logs.get(process.containerId) ?? '';
    const end = `END RequestId: ${requestId}\nREPORT RequestId: ${requestId}\tDuration: 1.00 ms\n`;
    runtime.logs.set(process.containerId, (log.length > 8_192 ? log.slice(-1_024) : log) + end);
  }

  /** Goes on when a process that is not frozen has had its time. */
  #later(process: WorkerProcess, ms: number, go: () => void): void {
    const { clock, runtime } = this.#options;
    clock.setTimer(() => {
      if (this.byId.get(process.containerId) !== process) {
        return;
      }
      if (runtime.taskOf(process.containerId) === 'Paused') {
        this.#later(process, 500, go);
      } else {
        go();
      }
    }, ms);
  }

  #rest(process: WorkerProcess): void {
    const isFree = process.calls.size === 0 && process.held === 0;
    const takes = isFree && process.listening && (!process.isInit || this.#isReady(process));
    process.idleSince = takes ? this.#options.clock.monotonic() : undefined;
  }

  #isReady(process: WorkerProcess): boolean {
    return process.phase === 'Ready' && this.#inits?.isConnected(process) === true;
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
        calls: new Map(),
        places: info.runtimeInterface === 'Lambda' ? placesOf(info.identity.name) : 1,
        held: 0,
        remembered: new Map(),
        had: new Set(),
        aloneSince: undefined,
        isInit: info.runtimeInterface === 'Lambda',
        phase: 'Starting',
        lingers: false,
        restarts: 0,
        onConnected: () => this.#rest(process),
      };
      this.byId.set(containerId, process);
      if (process.isInit) {
        this.#inits?.seek(process);
      } else {
        this.#byIp.set(process.ip, process);
      }
    } else if (kind === 'Resumed') {
      const process = this.byId.get(containerId);
      if (process !== undefined) {
        process.foreignFrozen = false;
        if (process.isInit && this.#inits?.isConnected(process) === true) {
          // While it was frozen it said nothing.
          this.#inits.tell(process);
        } else if (process.isInit) {
          this.#inits?.seek(process, 5);
        }
        this.#rest(process);
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
    this.#inits?.lose(process);
    if (this.#byIp.get(process.ip) === process) {
      this.#byIp.delete(process.ip);
    }
    const calls = [...process.calls.values()];
    process.calls.clear();
    for (const call of calls) {
      // Its agent hears of the exit before, after or in the same moment.
      this.#options.clock.setTimer(() => call.breaks(), this.#options.random.between(0, 3));
    }
  }
}

/** Its init remembers a call no more. */
function forget({ process, requestId }: LiveCall): void {
  process.remembered.delete(requestId);
}
