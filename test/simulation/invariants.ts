import type { DesiredWorker } from '../../src/agent/model/desired-worker.ts';
import type { InvocationResult } from '../../src/agent/model/invocation.ts';
import type { FakeOperation, FakeRuntime } from '../support/fake-runtime.ts';
import type { AgentLife } from './agent-life.ts';
import type { AgentCallFact, CallerOutcome, CallWatcher, Cluster } from './cluster.ts';
import { crashingShape, type FaultyParts, muteShape } from './faulty-parts.ts';
import { memoryFiles } from './memory-files.ts';
import type { SimulatedClock } from './simulated-clock.ts';
import { isBeheaded } from './simulated-inits.ts';
import type { LiveCall, ProcessWatcher, WorkerProcess, WorkerProcesses } from './worker-processes.ts';

/** Milliseconds within which something has to come true once no fault keeps it from that. */
export const bounds = {
  /** The view of a worker becomes true: a list every minute, and the time of the list. */
  shown: 80_000,
  /** A call enters a worker that runs idle. A pause that has begun ends first. */
  entry: 16_000,
  /** A call enters a worker that has to be started. */
  start: 45_000,
  /** A shim that stands still is ended: a list, half a minute of patience, the removal. */
  hung: 210_000,
} as const;

/** Milliseconds for which the grace of a process may be overstepped by the clock. */
const SLACK_MS = 50;

/** Milliseconds for which a gateway waits for the next agent at least. */
const WAITS_MS = 20_000;
/** Milliseconds in which an agent is asked, and in which an init keeps answers for that. */
const ASKED_MS = 25_000;

export interface InvariantsOptions {
  readonly clock: SimulatedClock;
  readonly runtime: FakeRuntime;
  readonly processes: () => WorkerProcesses;
  readonly cluster: () => Cluster;
  readonly faults: () => FaultyParts;
  readonly capacity: { readonly memoryMiB: number; readonly workers: number };
  readonly runDir: string;
  readonly takenMiB: (desired: Pick<DesiredWorker, 'memoryMiB' | 'ephemeralStorageMiB'>) => number;
  readonly onViolation: (text: string) => void;
  readonly onNote: (text: string) => void;
}

/**
 * Properties that must hold under any events: written from the duties of the node, and apart from the code that fulfils
 * them. Facts come from the simulated parts, never from the agent, save its views.
 */
export class Invariants implements ProcessWatcher, CallWatcher {
  readonly #options: InvariantsOptions;
  readonly #sent = new Set<string>();
  readonly #answered = new Set<string>();
  readonly #outcomes = new Set<string>();
  readonly #unsent = new Set<string>();
  #clockSetAt = Number.NEGATIVE_INFINITY;
  readonly #ghosts = new Set<string>();
  /** Containers that the present agent can know of, with the monotonic milliseconds since when. */
  readonly #known = new Map<string, number>();
  /** Containers that may be removed for what happened in them. */
  readonly #suspect = new Map<string, string>();
  /** Operations under way by container. */
  readonly #operating = new Map<string, number>();
  /** Monotonic milliseconds of the end of the last operation. */
  readonly #operated = new Map<string, number>();
  /** Since when what is shown of a worker is not true. */
  readonly #untrue = new Map<string, { readonly what: string; readonly since: number }>();
  readonly #hungSince = new Map<string, number>();
  /** Monotonic milliseconds of the last end of an agent. */
  #diedAt = 0;
  readonly #lifeSince = new WeakMap<AgentLife, number>();

  constructor(options: InvariantsOptions) {
    this.#options = options;
    options.runtime.onEffect = (operation, containerId) => this.#effect(operation, containerId);
  }

  violation(text: string): void {
    this.#options.onViolation(text);
  }

  note(text: string): void {
    this.#options.onNote(text);
  }

  /**
   * An agent starts, and finds this.
   *
   * @param marked containers that marks tell of a call in
   * @param served containers that records tell of
   */
  starts(marked: readonly string[], served: readonly string[]): void {
    this.#known.clear();
    for (const containerId of served) {
      this.#knows(containerId);
    }
    for (const containerId of marked) {
      this.suspect(containerId, 'its mark tells of a call');
    }
  }

  /** The wall clock was set: marks tell by it when the time of a call is over. */
  clockSet(): void {
    this.#clockSetAt = this.#options.clock.monotonic();
  }

  /** The runtime has listed all containers. */
  listed(): void {
    for (const containerId of this.#options.runtime.containers.keys()) {
      this.#knows(containerId);
    }
  }

  #knows(containerId: string): void {
    this.#known.set(containerId, this.#known.get(containerId) ?? this.#options.clock.monotonic());
  }

  /** An agent serves from now on. */
  begun(life: AgentLife): void {
    this.#lifeSince.set(life, this.#options.clock.monotonic());
  }

  /** A container may be removed from now on. */
  suspect(containerId: string, why: string): void {
    this.#suspect.set(containerId, why);
  }

  /** A container is gone. */
  gone(containerId: string): void {
    this.#suspect.delete(containerId);
    this.#operated.delete(containerId);
  }

  /** An operation of an agent that is dead by now has its effect all the same. */
  ghost(operation: FakeOperation, containerId: string): void {
    this.#ghosts.add(`${operation} ${containerId}`);
  }

  /** An agent asks for an operation. */
  begins(operation: FakeOperation, containerId: string): void {
    this.note(`${operation} ${containerId}`);
    const process = this.#options.processes().byId.get(containerId);
    if (operation === 'destroy') {
      this.#mayRemove(containerId, 'is being removed');
    } else if (
      (operation === 'pause' || operation === 'settle') &&
      process?.isInit === true &&
      (process.lingers || process.phase !== 'Ready')
    ) {
      this.violation(`${containerId} is being frozen (${operation}), and is not idle`);
    }
    this.#operating.set(containerId, (this.#operating.get(containerId) ?? 0) + 1);
  }

  ends(containerId: string): void {
    const left = (this.#operating.get(containerId) ?? 1) - 1;
    if (left > 0) {
      this.#operating.set(containerId, left);
    } else {
      this.#knows(containerId);
      this.#operating.delete(containerId);
      this.#operated.set(containerId, this.#options.clock.monotonic());
    }
  }

  /** Forgets the operations of an agent that was killed. */
  died(): void {
    this.#diedAt = this.#options.clock.monotonic();
    this.#operating.clear();
  }

  // Calls

  sent(call: LiveCall): void {
    this.note(`> ${call.requestId} into ${call.process.containerId}`);
    const { cluster, runDir } = this.#options;
    const { process, requestId } = call;
    if (requestId.startsWith('warm-up')) {
      return;
    }
    if (this.#sent.has(requestId)) {
      this.violation(`${requestId} was sent twice`);
    }
    this.#sent.add(requestId);
    if (this.#outcomes.has(requestId)) {
      this.violation(`${requestId} was sent after its caller had an outcome`);
    }
    const fact = cluster().atAgent.get(requestId);
    if (fact !== undefined) {
      fact.sent = true;
      if (fact.uid !== process.uid) {
        this.violation(`${requestId} of ${fact.uid} was sent to ${process.uid}`);
      }
    }
    if (process.isInit) {
      return;
    }
    const mark = memoryFiles.files.get(`${runDir}/${process.uid}.mark`)?.split('\n\n', 1)[0] ?? '';
    const isMarked = mark
      .split('\n')
      .some((line) => line.startsWith(`1 ${process.containerId} `) && line.endsWith(` ${requestId}`));
    if (!isMarked) {
      this.violation(`${requestId} was sent before its mark was written: '${mark}'`);
    }
  }

  failed({ containerId }: WorkerProcess): void {
    this.suspect(containerId, 'its init has failed');
  }

  worn({ containerId }: WorkerProcess): void {
    this.suspect(containerId, 'calls hold half of its places');
  }

  unsent(requestId: string): void {
    this.#unsent.add(requestId);
  }

  answered({ requestId }: LiveCall): void {
    this.#answered.add(requestId);
  }

  told({ process, requestId, told }: LiveCall): void {
    this.note(`< ${requestId} ${told}`);
    if (told === 'Unknown' || told === 'TimedOut' || told === 'CutOff') {
      this.#suspect.set(process.containerId, `${requestId}: ${told}`);
    } else if (requestId.startsWith('warm-up') && told !== 'Answered') {
      this.#suspect.set(process.containerId, `${requestId}: ${told}`);
    }
  }

  agentSaid({ requestId, uid, sent, since }: AgentCallFact, result: InvocationResult, body: string): void {
    if (result.kind !== 'Answered') {
      this.note(`${requestId} at ${uid}: ${result.kind} ${'reason' in result ? result.reason : ''}`);
    }
    switch (result.kind) {
      case 'Refused':
        if (sent || this.#sent.has(requestId)) {
          this.violation(`${requestId} was refused (${result.reason}) and had been sent`);
        }
        if (result.reason === 'Unavailable' && !this.#unsent.has(requestId)) {
          this.#mayRefuse(requestId, uid, since, result.message);
        }
        return;
      case 'Answered':
        this.#checkAnswer(requestId, result, body);
        return;
      case 'TimedOut':
      case 'Unknown':
        if (!sent) {
          this.violation(`${requestId} is ${result.kind} to the agent, and was never sent`);
        }
        return;
      default:
        result satisfies never;
    }
  }

  recovered(requestId: string, result: InvocationResult, body: string): void {
    this.note(`${requestId} is asked for: ${result.kind}`);
    if (result.kind === 'Answered') {
      this.#checkAnswer(requestId, result, body);
    } else if (result.kind !== 'Unknown' && this.#sent.has(requestId)) {
      this.violation(`${requestId} had been sent, and is ${result.kind} to the gateway that asks for it`);
    }
  }

  #checkAnswer(requestId: string, { end }: Extract<InvocationResult, { kind: 'Answered' }>, body: string): void {
    if (end !== undefined && end.outcome !== 'Answered') {
      const isBegun = body !== '' && `"${requestId}"`.startsWith(body);
      if (!body.includes(requestId) && !isBegun) {
        this.violation(`${requestId} ended ${end.outcome}, and its caller reads '${body}'`);
      }
      if (body.startsWith('"') && end.lateError === undefined) {
        this.violation(`${requestId} ended ${end.outcome} amid its answer, and its caller is told of no error`);
      }
      return;
    }
    if (!this.#answered.has(requestId) || body !== `"${requestId}"`) {
      // The caller sees by its size that an answer was cut off.
      if (body !== '') {
        this.violation(`${requestId} is said to be answered, with '${body}'`);
      }
    }
  }

  /** No answer is lost that an init keeps for the gateway of its call. */
  #mayBeUnknown(requestId: string): void {
    const { clock, cluster, faults, processes, runtime } = this.#options;
    const { life, resources } = cluster();
    const call = processes().heldCall(requestId);
    if (call === undefined || isBeheaded(call) || call.asker !== undefined || cluster().hungUp.has(requestId)) {
      return;
    }
    const { containerId, uid } = call.process;
    const resource = resources.get(uid);
    const isStranger = (call.life === life && life.alive) || call.told === 'Unknown';
    // An agent that serves has been asked, and knows of the answer as soon as the init has connected.
    const serves = life?.serves === true && life.alive;
    const since = serves ? (this.#lifeSince.get(life) ?? 0) : this.#diedAt;
    const isAsked = clock.monotonic() - since < (serves ? ASKED_MS : WAITS_MS) && (!serves || call.ended !== undefined);
    const isWanted = resource?.here === true && resource.deletedAt === undefined;
    const isQuiet = faults().quietSince(containerId) < call.sentAt && faults().nodeQuietSince < call.sentAt;
    const runs = runtime.taskOf(containerId) === 'Running' && !this.#suspect.has(containerId);
    if (!isStranger && isAsked && isWanted && isQuiet && runs) {
      this.violation(`${requestId} is unknown to its caller, and its init has the answer`);
    }
  }

  callerGot(requestId: string, outcome: CallerOutcome, body: string): void {
    if (this.#outcomes.has(requestId)) {
      this.violation(`${requestId} has two outcomes`);
    }
    this.#outcomes.add(requestId);
    if (outcome === 'refused' && this.#sent.has(requestId)) {
      this.violation(`${requestId} was refused to its caller and had been sent: ${body}`);
    }
    if (outcome === 'unknown') {
      this.#mayBeUnknown(requestId);
    }
    if (outcome === 'answered' && !this.#answered.has(requestId)) {
      this.violation(`${requestId} was answered to its caller, and by no worker`);
    }
  }

  /** An agent that serves refuses nothing as unavailable to a worker that runs and could take it. */
  #mayRefuse(requestId: string, uid: string, since: number, message: string): void {
    const { clock, cluster } = this.#options;
    const life = cluster().life;
    if (life === undefined || life.stopping || !life.serves) {
      return;
    }
    const process = this.#servingOf(uid);
    if (process === undefined || this.#suspect.has(process.containerId)) {
      return;
    }
    const from = Math.max(process.idleSince ?? Number.POSITIVE_INFINITY, this.#lastOperated(process), since - 2_000);
    if (from <= since && clock.monotonic() - (this.#lifeSince.get(life) ?? 0) > 5_000) {
      this.violation(`${requestId} was refused as unavailable though ${process.containerId} runs: ${message}`);
    }
  }

  // Effects

  #effect(operation: FakeOperation, containerId: string): void {
    const { processes } = this.#options;
    if (this.#ghosts.delete(`${operation} ${containerId}`)) {
      this.note(`${operation} ${containerId}, by an agent that is dead`);
      this.#suspect.set(containerId, `${operation} by an agent that is dead`);
      return;
    }
    if (operation === 'ensure') {
      this.#mayCreate(containerId);
    } else if (operation === 'pause' || operation === 'settle') {
      const inside = this.#insideOf(processes().byId.get(containerId));
      if (inside !== undefined) {
        this.violation(`${containerId} was frozen (${operation}) with ${inside.requestId} in it`);
      }
    } else if (operation === 'destroy') {
      this.#mayRemove(containerId, 'was removed');
    }
  }

  /** A call that an agent has to wait for in a process; undefined for none. */
  #insideOf(process: WorkerProcess | undefined): LiveCall | undefined {
    return [...(process?.calls.values() ?? [])].find((call) => this.#isInside(call));
  }

  /** Whether an agent has to wait for a call: it does not know of its end, and its time is not over. */
  #isInside(call: LiveCall): boolean {
    const { clock, cluster } = this.#options;
    if (call.told !== undefined) {
      return false;
    }
    if (call.life === cluster().life) {
      return true;
    }
    // A warm-up call of a container that does not serve yet is not marked.
    if (call.requestId.startsWith('warm-up')) {
      return false;
    }
    return clock.monotonic() < call.until - SLACK_MS && this.#clockSetAt < call.sentAt;
  }

  #mayRemove(containerId: string, what: string): void {
    const { clock, cluster, faults, processes, runtime } = this.#options;
    const info = runtime.containers.get(containerId);
    const process = processes().byId.get(containerId);
    if (info === undefined || process === undefined) {
      return;
    }
    const { uid } = info.identity;
    const resource = cluster().resources.get(uid);
    const told = cluster().told.get(uid);
    const inside = this.#insideOf(process);
    if (inside !== undefined) {
      const deletedAt = resource === undefined ? 0 : resource.deletedAt;
      const { letsCallsEnd, terminationGraceSeconds = 0 } = told ?? resource?.desired ?? {};
      const graceMs = letsCallsEnd === true ? Number.POSITIVE_INFINITY : terminationGraceSeconds * 1_000;
      const mayHurry = deletedAt !== undefined && clock.monotonic() >= deletedAt + graceMs - SLACK_MS;
      if (!mayHurry) {
        this.violation(`${containerId} ${what} with ${inside.requestId} in it`);
      }
    }
    const desired = resource?.desired;
    const isUnwanted =
      resource === undefined ||
      !resource.here ||
      resource.deletedAt !== undefined ||
      (cluster().told.has(uid) && told === undefined) ||
      desired?.shapeHash !== info.shapeHash ||
      told?.shapeHash !== info.shapeHash ||
      told.deleting ||
      mayRestAbsent(told) ||
      mayRestAbsent(resource.desired) ||
      // A removal that was decided before the resource changed goes on.
      clock.monotonic() - (cluster().toldAt.get(uid) ?? 0) < 5_000;
    const isTwin = [...runtime.containers.values()].some(
      (other) => other.identity.uid === uid && other.containerId !== containerId,
    );
    const isLeft = process.calls.size > 0 && inside === undefined;
    const isBroken =
      isLeft ||
      this.#suspect.has(containerId) ||
      runtime.hung.has(containerId) ||
      !process.listening ||
      faults().quietSince(containerId) > clock.monotonic() - 60_000;
    if (!isUnwanted && !isTwin && !isBroken) {
      this.violation(`${containerId} ${what} though it is wanted, whole and serves`);
    }
    // From here on there is no way back.
    this.#suspect.set(containerId, 'it is being removed');
  }

  #mayCreate(containerId: string): void {
    const { capacity, cluster, runtime, takenMiB } = this.#options;
    const present = runtime.containers.get(containerId);
    if (present !== undefined) {
      return;
    }
    let memoryMiB = 0;
    let workers = 1;
    for (const { identity } of runtime.containers.values()) {
      const desired = cluster().told.get(identity.uid) ?? cluster().resources.get(identity.uid)?.desired;
      memoryMiB += desired === undefined ? 0 : takenMiB(desired);
      workers += 1;
    }
    if (memoryMiB >= capacity.memoryMiB || workers > capacity.workers) {
      const present = [...runtime.containers.values()].map(({ containerId: id, task }) => `${id} ${task.kind}`);
      this.violation(`${containerId} is made beyond the capacity, ${memoryMiB} MiB: ${present.join(', ')}`);
    }
  }

  // After each step

  check(): void {
    const { cluster } = this.#options;
    const { life } = cluster();
    if (life?.serves !== true || !life.alive || life.stopping) {
      return;
    }
    this.#checkShown(life);
    this.#checkWaiting(life);
    this.#checkHung(life);
  }

  #checkShown(life: AgentLife): void {
    const { clock, faults } = this.#options;
    const now = clock.monotonic();
    for (const view of life.fleet?.views() ?? []) {
      const { uid } = view.identity;
      const what = view.transient ? undefined : this.#untruth(uid, view.phase, view.containerId);
      const before = this.#untrue.get(uid);
      if (what === undefined) {
        this.#untrue.delete(uid);
      } else if (before?.what !== what) {
        this.#untrue.set(uid, { what, since: now });
      } else {
        const quiet = Math.max(
          faults().nodeQuietSince,
          view.containerId === undefined ? 0 : faults().quietSince(view.containerId),
          this.#lifeSince.get(life) ?? 0,
        );
        if (now - Math.max(before.since, quiet) > bounds.shown) {
          this.violation(`${uid} is shown as ${view.phase} for ${(now - before.since) / 1_000} s: ${what}`);
        }
      }
    }
  }

  /** Why what is shown at rest is not so. */
  #untruth(uid: string, phase: string, containerId: string | undefined): string | undefined {
    const { runtime } = this.#options;
    const task = containerId === undefined ? undefined : runtime.taskOf(containerId);
    switch (phase) {
      case 'Running':
        return task === 'Running' ? undefined : `its container is ${task ?? 'gone'}`;
      case 'Paused':
        return task === 'Paused' ? undefined : `its container is ${task ?? 'gone'}`;
      case 'Absent': {
        const process = this.#servingOf(uid);
        return process === undefined ? undefined : `${process.containerId} runs`;
      }
      default:
        return undefined;
    }
  }

  #checkWaiting(life: AgentLife): void {
    const { clock, cluster, faults } = this.#options;
    const now = clock.monotonic();
    for (const call of cluster().atAgent.values()) {
      if (call.sent || call.life !== life || now - call.since <= bounds.entry) {
        continue;
      }
      const told = cluster().told.get(call.uid);
      const from = Math.max(call.since, this.#lifeSince.get(life) ?? 0, cluster().toldAt.get(call.uid) ?? 0);
      const process = this.#servingOf(call.uid);
      if (process !== undefined && !this.#suspect.has(process.containerId)) {
        const idle = process.idleSince ?? Number.POSITIVE_INFINITY;
        const known = this.#known.get(process.containerId) ?? now;
        const since = Math.max(from, idle, known, this.#lastOperated(process));
        if (told?.shapeHash === process.shapeHash && now - since > bounds.entry) {
          this.violation(`${call.requestId} waits for ${process.containerId}, which runs idle`);
        }
      }
      const isSound = told !== undefined && told.shapeHash !== muteShape && told.shapeHash !== crashingShape;
      const calls = this.#options.processes().live.filter(({ process: { uid } }) => uid === call.uid);
      if (isSound && process === undefined && calls.length === 0) {
        const since = Math.max(from, faults().nodeQuietSince, this.#quietOf(call.uid));
        if (now - since > bounds.start) {
          this.violation(`${call.requestId} waits for ${call.uid} to start for ${(now - since) / 1_000} s`);
        }
      }
    }
  }

  #checkHung(life: AgentLife): void {
    const { clock, faults, processes, runtime } = this.#options;
    const now = clock.monotonic();
    for (const containerId of this.#hungSince.keys()) {
      if (!runtime.hung.has(containerId)) {
        this.#hungSince.delete(containerId);
      }
    }
    for (const containerId of runtime.hung) {
      const began = this.#hungSince.get(containerId);
      if (began === undefined) {
        this.#hungSince.set(containerId, now);
        continue;
      }
      const undying = runtime.undying.has(containerId);
      const busy = (processes().byId.get(containerId)?.calls.size ?? 0) > 0;
      const since = Math.max(began, faults().nodeQuietSince, this.#lifeSince.get(life) ?? 0);
      // Where all stand still, one is given up after the other.
      const bound = bounds.hung + 45_000 * (runtime.hung.size - 1);
      if (!undying && !busy && now - since > bound) {
        this.violation(`${containerId} is left though its shim stands still for ${(now - began) / 1_000} s`);
      }
    }
  }

  /** The process that could serve a worker now, where it has exactly one. */
  #servingOf(uid: string): WorkerProcess | undefined {
    const { processes, runtime } = this.#options;
    const own = [...processes().byId.values()].filter((process) => process.uid === uid);
    const [first] = own;
    return own.length === 1 &&
      first?.listening === true &&
      this.#known.has(first.containerId) &&
      runtime.taskOf(first.containerId) === 'Running'
      ? first
      : undefined;
  }

  #lastOperated({ containerId }: WorkerProcess): number {
    return this.#operating.has(containerId) ? Number.POSITIVE_INFINITY : (this.#operated.get(containerId) ?? 0);
  }

  /** Since when no fault touches any container of a worker. */
  #quietOf(uid: string): number {
    const { faults, runtime } = this.#options;
    const own = [...runtime.containers.values()].filter(({ identity }) => identity.uid === uid);
    const name = uid.slice(0, uid.indexOf('-'));
    return Math.max(faults().quietNameSince(name), ...own.map(({ containerId }) => faults().quietSince(containerId)));
  }
}

/** Whether a worker may be without a container. */
export function mayRestAbsent({ removeAfterSeconds, restingState }: DesiredWorker): boolean {
  return restingState === 'Absent' || removeAfterSeconds !== undefined;
}
