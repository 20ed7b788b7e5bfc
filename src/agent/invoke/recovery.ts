import type { Clock, Timer } from '../../common/clock.ts';
import { EsbError, unreachable } from '../../common/errors.ts';
import type { InitAnswer, InitHead, WorkerInits } from '../../init/contract.ts';
import { type LogTools, logTailOf } from '../logs/log-tail.ts';
import type { InvocationResult, Recovery } from '../model/invocation.ts';
import { workerAnswer } from './init-client.ts';

/** Milliseconds that the inits of a worker get to tell of the calls that they know. */
const TOLD_MS = 5_000;
/** Milliseconds between two looks at whether the worker is frozen. */
const LOOK_MS = 200;

export interface RecoveryTools extends LogTools {
  readonly inits: Pick<WorkerInits, 'link' | 'subscribe'>;
  /** Containers of the worker at the moment, and whether they take several calls at once. */
  readonly containers: () => readonly { readonly id: string; readonly several: boolean }[];
  /** Whether these are all in which an earlier run of the agent can have put a call. */
  readonly hasAll: () => boolean;
  /** Thaws the worker where it is frozen. */
  readonly thaw: () => void;
  /** The stamp of the activity, taken at the end. */
  readonly stamp: () => string;
}

/** An answer, and the container that it came from. */
interface FoundEnd {
  readonly answer: InitAnswer;
  readonly container?: ReturnType<RecoveryTools['containers']>[number] | undefined;
}

/** Passes on the answer of a call that an earlier run of the agent has sent, as {@link Fleet.recover} says. */
export async function recoverCall(recovery: Recovery, tools: RecoveryTools): Promise<InvocationResult> {
  const { from, onChunk, onHead, requestId } = recovery;
  let head: InitHead | undefined;
  const { answer, container } = await findAnswer(recovery, tools, (told) => {
    head = told;
  });
  // The gateway may have a part of a text that stands in the place of the answer.
  const has = answer.kind === 'Ended' ? Math.max(0, from - answer.end.size) : 0;
  const result = workerAnswer(requestId, answer, head, {
    onHead,
    onChunk: (chunk) => onChunk(chunk.subarray(has)),
  });
  switch (result.kind) {
    case 'Answered': {
      const run = answer.kind === 'Ended' ? answer.end.durationUs : 0;
      const timings = { queued: 0, wake: 0, run, start: 'running' } as const;
      const logged =
        recovery.tailLog && container !== undefined
          ? { containerId: container.id, several: container.several, requestId, offset: undefined }
          : undefined;
      const logTail = logged === undefined ? {} : { logTail: await logTailOf(tools, logged) };
      return { kind: 'Answered', end: result.end, stamp: tools.stamp(), timings, ...logTail };
    }
    case 'NotSent':
      return { kind: 'Refused', reason: 'Unavailable', message: result.message };
    case 'Unknown':
      return { kind: 'Unknown', reason: 'AgentStopped', message: result.message, stamp: '' };
    case 'TimedOut':
    case 'CutOff':
      throw new EsbError(`a found call has ended as ${result.kind}`, { code: 'Internal' });
    default:
      return unreachable(result);
  }
}

async function findAnswer(
  { arrival, from, onChunk, onHead, requestId, room, sentMs, signal }: Recovery,
  tools: RecoveryTools,
  onTold: (head: InitHead) => void,
): Promise<FoundEnd> {
  const { clock, containers, hasAll, inits, thaw } = tools;
  const taker = {
    onHead: (head: InitHead): void => {
      onTold(head);
      onHead({ status: 200, ...head });
    },
    onChunk,
    room,
    arrival,
    signal,
  };
  const asked = clock.monotonic();
  const until = asked + TOLD_MS;
  for (;;) {
    const known = containers();
    for (const container of known) {
      const answer = inits.link(container.id)?.recover(requestId, from, taker);
      if (answer !== undefined) {
        return { answer: await endOf(answer, tools, signal), container };
      }
    }
    const links = known.flatMap(({ id }) => inits.link(id) ?? []);
    const now = clock.monotonic();
    if (
      sentMs !== undefined &&
      hasAll() &&
      links.length > 0 &&
      links.length === known.length &&
      links.every((link) => link.neverHad(requestId, sentMs + now - asked))
    ) {
      return { answer: { kind: 'NotSent', message: 'the agent ended before it sent the call', own: true } };
    }
    const left = until - now;
    if (left <= 0 || signal.aborted || links.every(({ state }) => state !== undefined)) {
      return { answer: { kind: 'Unknown', message: 'the agent was replaced, and the answer of the call is not kept' } };
    }
    thaw();
    await nextNews(inits, clock, Math.min(left, LOOK_MS));
  }
}

/** The end of an answer that was found. The init of a worker that was frozen meanwhile may have a part of it still. */
async function endOf(
  answer: Promise<InitAnswer>,
  { clock, thaw }: RecoveryTools,
  signal: AbortSignal,
): Promise<InitAnswer> {
  const look = (): Timer =>
    clock.setTimer(() => {
      if (!signal.aborted) {
        thaw();
        timer = look();
      }
    }, LOOK_MS);
  // The init tells of the answer when it is asked.
  thaw();
  let timer = look();
  const end = await answer;
  timer.cancel();
  return end;
}

/** Resolves once an init of the node tells something, at the latest after that many milliseconds. */
async function nextNews(inits: RecoveryTools['inits'], clock: Clock, delayMs: number): Promise<void> {
  const told = Promise.withResolvers<void>();
  const deaf = inits.subscribe(() => told.resolve());
  const timer = clock.setTimer(() => told.resolve(), delayMs);
  await told.promise;
  timer.cancel();
  deaf();
}
