import { withDeadline } from '../../common/deadline.ts';
import { EsbError, isShortage, unreachable } from '../../common/errors.ts';
import type { FairGate } from '../../common/fair-gate.ts';
import type { Logger } from '../../common/logger.ts';
import type { DesiredWorker } from '../model/desired-worker.ts';
import { type Action, type DestroyAction, isOptional } from '../model/plan.ts';
import { resolveSecrets } from '../secrets/resolve-secrets.ts';
import { type Container, observedOf } from '../step/container.ts';
import type { ActionOutcome, Progress, Seen, SettleOutcome } from '../step/events.ts';
import type { WorkerContext } from './context.ts';
import type { Dispatcher } from './dispatcher.ts';
import { WarmUpError, warmUp } from './warm-up.ts';

const inspectMs = 5_000;
const diagnosisMs = 1_000;
const transitionMs = 15_000;
/** Milliseconds that taking a container away may take beside its grace period. */
const destroyMs = 60_000;
/** Milliseconds that a start may take with the longest pull. Each of its steps has a deadline of its own. */
const startMs = 65 * 60_000;
/** Milliseconds for which a process that was started, and does not listen yet, counts as a start. */
const listenInGateMs = 2_000;
/** Milliseconds after which a pause or a removal waits for something else than for this machine. */
const longestInGateMs = 2_000;
const lastOutputBytes = 2 * 1024;
/** Milliseconds in which the words are read that an init has left in its socket. */
const lastWordsMs = 1_000;

/** An action to be done to a container. */
export interface ActionOrder {
  readonly container: Container;
  readonly action: Action;
  readonly desired: DesiredWorker;
  /** Whether the worker is to go for good. */
  readonly ending: boolean;
  /** Whether calls go to the container. */
  readonly serves: boolean;
  /** Whether a call waits for the end of it. */
  readonly urgent: boolean;
  readonly onProgress: (progress: Progress) => void;
}

/** Work on one container that is under way. */
interface Running {
  readonly abort: AbortController;
  urgent: boolean;
  /** The gate that has not let it through yet. */
  waitsAt: FairGate | undefined;
}

/** Acts on the containers of one worker. */
export class ActionRunner {
  readonly #context: WorkerContext;
  readonly #dispatcher: Dispatcher;
  readonly #logger: Logger;
  readonly #running = new Map<string, Running>();
  readonly #works = new Set<Promise<unknown>>();
  /** Whether it was logged that the runtime does not answer; until it does. */
  #outageTold = false;

  constructor(context: WorkerContext, dispatcher: Dispatcher, logger: Logger) {
    this.#context = context;
    this.#dispatcher = dispatcher;
    this.#logger = logger;
  }

  /** Begins before it returns, and never rejects. One at a time for each container. */
  run(order: ActionOrder): Promise<ActionOutcome> {
    return this.#track(order.container.make.id, order.urgent, (running) => this.#run(order, running));
  }

  /** Tells the runtime's own tools that a container runs, which may be frozen for a few milliseconds of that. */
  settle(containerId: string): Promise<SettleOutcome> {
    return this.#track(containerId, false, async ({ abort: { signal } }) => {
      const { runtime } = this.#context;
      try {
        return { settled: await runtime.settle(containerId, { signal }), runs: true };
      } catch (error) {
        this.#logger.warn({ err: error }, 'a worker could not be settled');
        return { settled: false, runs: runtime.kernelState(containerId) === 'Running' };
      }
    });
  }

  /** Looks at a container beside everything else; undefined where it cannot. */
  async look(containerId: string, purpose: 'Verify' | 'Diagnose'): Promise<Omit<Seen, 'lost'> | undefined> {
    const { outlook } = this.#context;
    try {
      const seen = await this.#see(containerId, {
        deadlineMs: purpose === 'Verify' ? inspectMs : diagnosisMs,
      });
      if (purpose === 'Verify') {
        outlook.heard(true);
      }
      return seen;
    } catch (error) {
      if (purpose === 'Verify' && EsbError.from(error).code === 'RuntimeUnavailable') {
        outlook.heard(false);
      }
      this.#logger.debug({ err: error }, 'cannot look at a container');
      return undefined;
    }
  }

  /** Ends what is being done; the runtime takes back what it has made. A worker that is settled runs when this returns. */
  abort(containerId: string): void {
    this.#running.get(containerId)?.abort.abort();
  }

  /** Ends what is being done, unless it has begun. */
  abandon(containerId: string): void {
    const running = this.#running.get(containerId);
    if (running?.waitsAt !== undefined) {
      running.abort.abort();
    }
  }

  /** A call waits for what is being done, or none does any more. */
  hurry(containerId: string, urgent: boolean): void {
    const running = this.#running.get(containerId);
    if (running !== undefined) {
      running.urgent = urgent;
      running.waitsAt?.reconsider();
    }
  }

  /** Resolves when nothing is being done any more. */
  async idle(): Promise<void> {
    await Promise.all(this.#works);
  }

  #track<T>(containerId: string, urgent: boolean, work: (running: Running) => Promise<T>): Promise<T> {
    const running: Running = { abort: new AbortController(), urgent, waitsAt: undefined };
    this.#running.set(containerId, running);
    const done = work(running).finally(() => {
      this.#works.delete(done);
      if (this.#running.get(containerId) === running) {
        this.#running.delete(containerId);
      }
    });
    this.#works.add(done);
    return done;
  }

  async #run(order: ActionOrder, running: Running): Promise<ActionOutcome> {
    const { clock, metrics, outlook } = this.#context;
    const { kind } = order.action;
    const begun = clock.monotonic();
    let outcome: ActionOutcome;
    let code = 'ok';
    try {
      outcome = await this.#perform(order, running);
      if (kind !== 'Resume') {
        // A thaw below the runtime says nothing of it; whether it is settled is another matter.
        outlook.heard(true);
        this.#outageTold = false;
      }
      if (outcome.kind === 'Inspected' && isUntold(outcome.seen)) {
        code = 'TaskUnanswering';
        this.#logger.warn({ action: kind, code }, 'an action failed');
      }
    } catch (error) {
      outcome = running.waitsAt === undefined ? this.#failed(order, error) : ({ kind: 'NotBegun' } as const);
      code = EsbError.from(error).code;
    }
    metrics?.action(kind, clock.monotonic() - begun, code);
    return outcome;
  }

  #failed({ action, container }: ActionOrder, thrown: unknown): ActionOutcome {
    const { answers, outlook, runtime } = this.#context;
    const { id } = container.make;
    const error = EsbError.from(thrown);
    const kernel = runtime.kernelState(id);
    const lost = error.code === 'TaskUnanswering' && answers.unanswered(id, kernel === 'Gone');
    if (error.code === 'DeadlineExceeded') {
      // Whether it is the runtime as a whole is for a look at all of the node to say.
      outlook.doubt();
    }
    const down = error.code === 'RuntimeUnavailable';
    if (down) {
      outlook.heard(false);
    }
    if (error.code !== 'Aborted') {
      // Tried every second by each worker of the node: once is enough to say that the runtime is away.
      const level = down && this.#outageTold ? 'debug' : 'warn';
      this.#outageTold ||= down;
      this.#logger[level]({ container: id, action: action.kind, code: error.code, err: thrown }, 'an action failed');
    }
    const warmUp = thrown instanceof WarmUpError ? thrown.warmUp : undefined;
    return { kind: 'Failed', error, kernel, lost, shortage: isShortage(thrown), warmUp };
  }

  async #perform(order: ActionOrder, running: Running): Promise<ActionOutcome> {
    const { answers, clock, gates, runtime } = this.#context;
    const { action, container } = order;
    const { id } = container.make;
    const { signal } = running.abort;
    switch (action.kind) {
      case 'Inspect': {
        const seen = await this.#see(id, { signal, deadlineMs: inspectMs });
        return { kind: 'Inspected', seen: { ...seen, lost: answers.judge(id, seen.info) } };
      }
      case 'Ensure':
        return await this.#ensure(order, running);
      case 'WarmUp':
        return { kind: 'WarmedUp', call: await warmUp(this.#dispatcher, order, signal) };
      case 'Pause':
        await this.#pass(gates.pauses, order, running, (leave) => {
          clock.setTimer(leave, longestInGateMs);
          return runtime.pause(id, { signal, deadlineMs: transitionMs });
        });
        answers.answered(id);
        this.#dispatcher.release(id);
        return { kind: 'Done' };
      case 'Resume':
        await runtime.resume(id, { signal, deadlineMs: transitionMs });
        return { kind: 'Done' };
      case 'Destroy':
        await this.#pass(gates.removals, order, running, (leave) => {
          clock.setTimer(leave, longestInGateMs);
          return this.#destroy(order, action, signal);
        });
        return { kind: 'Done' };
      default:
        return unreachable(action);
    }
  }

  /** Reads what there is of a container and, where its process has ended, what it wrote and what its init said last. */
  async #see(
    containerId: string,
    options: { readonly signal?: AbortSignal; readonly deadlineMs: number },
  ): Promise<Omit<Seen, 'lost'>> {
    const { inits, runtime } = this.#context;
    const info = await runtime.inspect(containerId, options);
    let output = '';
    if (info?.task.kind === 'Stopped') {
      try {
        // The runtime may tell the end before the words are read by which the init says why.
        const read = async (): Promise<void> => await inits.link(containerId)?.disconnected();
        await withDeadline('last words of an init', lastWordsMs, options.signal, read);
      } catch (error) {
        this.#logger.debug({ err: error }, 'cannot read the last words of an init');
      }
      try {
        output = (await runtime.readLog(containerId, lastOutputBytes)).toString('utf8');
      } catch (error) {
        this.#logger.debug({ err: error }, 'cannot read the last output of a worker');
      }
    }
    return { info, output };
  }

  async #ensure(order: ActionOrder, running: Running): Promise<ActionOutcome> {
    const { clock, gates, limiter, records, runtime, secrets } = this.#context;
    const { container, desired, onProgress } = order;
    const { id, shapeHash } = container.make;
    const { signal } = running.abort;
    const { uid } = desired.identity;
    // Found running, and made by an agent that did not get to see it listen.
    const found = observedOf(container).kind === 'Running';
    const shape = await withDeadline('reading secrets', transitionMs, signal, (inner) =>
      resolveSecrets(desired, secrets, { signal: inner, deadlineMs: transitionMs }),
    );
    // An agent that dies from here on, and starts without a runtime, must not call the address of an earlier process.
    records.forgetProcess(uid, id);
    let making = true;
    const wait = (): void => {
      if (making) {
        limiter.wait(uid);
      }
    };
    try {
      const info = await this.#pass(gates.starts, order, running, (leave) => {
        const wayOut = (): void => {
          leave();
          wait();
        };
        return runtime.ensure(
          {
            containerId: id,
            identity: desired.identity,
            epoch: desired.epoch,
            shapeHash,
            shape,
            onProgress: (step, detail) => {
              if (step === 'Pulling') {
                wayOut();
              } else if (step === 'Starting') {
                // From here on the process is waited for, which may never listen.
                clock.setTimer(wayOut, listenInGateMs);
              } else {
                limiter.goOn(uid);
              }
              onProgress({ kind: 'Step', step, detail });
            },
          },
          { signal, deadlineMs: startMs },
        );
      });
      if (!found) {
        this.#dispatcher.forget(id);
      }
      return { kind: 'Ensured', info, found };
    } finally {
      making = false;
      limiter.goOn(uid);
    }
  }

  /** Does something when the gate lets it through. */
  async #pass<T>(
    gate: FairGate,
    { desired }: ActionOrder,
    running: Running,
    work: (leave: () => void) => Promise<T>,
  ): Promise<T> {
    running.waitsAt = gate;
    const entry = { namespace: desired.identity.namespace, urgent: () => running.urgent };
    return await gate.pass(entry, running.abort.signal, (leave) => {
      running.waitsAt = undefined;
      return work(leave);
    });
  }

  async #destroy(
    { container, desired, ending, onProgress }: ActionOrder,
    { why, ...action }: DestroyAction,
    signal: AbortSignal,
  ): Promise<void> {
    const { answers, records, runtime } = this.#context;
    const { id } = container.make;
    const graceSeconds = why === 'Unusable' ? 0 : desired.terminationGraceSeconds;
    const { kind } = observedOf(container);
    const mayServe = (kind === 'Running' || kind === 'Paused') && container.unusable === undefined;
    if (mayServe && isOptional({ ...action, why }) && !ending) {
      // A runtime that does not answer removes nothing, and calls need what runs meanwhile.
      await runtime.inspect(id, { signal, deadlineMs: inspectMs });
    }
    onProgress({ kind: 'Removing' });
    if (why === 'Replaced') {
      // An agent that dies from here on must know which one serves: this one is no longer whole.
      await records.saved(desired.identity.uid);
    }
    this.#logger.info({ container: id, why, reason: container.unusable }, 'removing a container');
    await runtime.destroy(id, {
      signal,
      graceSeconds,
      deadlineMs: graceSeconds * 1_000 + destroyMs,
      // Why it had to go may be in what it wrote last.
      keepLog: !ending,
    });
    this.#dispatcher.forget(id);
    answers.forget(id);
  }
}

/** Whether a look told nothing of the task: its shim is silent, and the kernel does not say enough. */
function isUntold({ info, lost }: Seen): boolean {
  return (
    info?.task.kind === 'Unanswering' && (lost || (info.task.kernel !== 'Running' && info.task.kernel !== 'Paused'))
  );
}
