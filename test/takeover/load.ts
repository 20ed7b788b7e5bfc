import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { InvokeCommand, InvokeWithResponseStreamCommand, type LambdaClient } from '@aws-sdk/client-lambda';
import { messageOf } from '../../src/common/errors.ts';
import { Random } from '../chaos/random.ts';
import type { TakeoverShape } from './shapes.ts';

/** A worker that is called all the time. */
export interface LoadedWorker {
  readonly name: string;
  readonly streams: TakeoverShape['streams'];
  /** Whether its callers leave it the time to be paused. */
  readonly isPausing: boolean;
  /** Calls that it takes at once. */
  readonly places: number;
  /** Calls under way. Those that find no place wait in the agent. */
  readonly callers: number;
}

/** Kinds of calls: their weights, and the events that they send. */
const kinds = {
  short: { weight: 70, event: (random: Random) => ({ sleep: random.between(0, 50) / 1_000, size: 10 }) },
  big: {
    weight: 12,
    event: (random: Random) => ({ sleep: random.between(0, 500) / 1_000, size: random.between(60_000, 2_000_000) }),
  },
  bulky: {
    weight: 6,
    event: (random: Random) => ({
      sleep: random.between(0, 500) / 1_000,
      size: random.between(10, 400_000),
      filler: random.between(33_000, 100_000),
    }),
  },
  long: { weight: 4, event: (_: Random, longSeconds: number) => ({ sleep: longSeconds, size: 100 }) },
  streamed: {
    weight: 40,
    event: (random: Random) => ({
      sleep: random.between(1, 40) / 10,
      parts: random.between(1, 12),
      size: random.between(10, 60_000),
    }),
  },
} as const;
export type CallKind = keyof typeof kinds;
export const callKinds = Object.keys(kinds) as readonly CallKind[];

export interface CallEvent {
  readonly id: string;
  readonly sleep: number;
  readonly size: number;
  /** Of a streamed answer; 0 for an answer in one piece. */
  readonly parts: number;
  /** Seconds before each part. */
  readonly pause: number;
  /** Bytes beside these in the event: more than 32 KiB have a stream of their own. */
  readonly filler: number;
}

/** How a call ended for its caller. `Refused`: with the word that it did not run. */
export type EndKind = 'Answered' | 'Wrong' | 'Failed' | 'Refused' | 'Unknown';

export interface LoadedCall {
  readonly worker: string;
  readonly kind: CallKind;
  readonly event: CallEvent;
  readonly end: EndKind;
  readonly why: string;
  /** Monotonic milliseconds. */
  readonly beganAt: number;
  readonly endedAt: number;
}

export interface LoadOptions {
  readonly lambda: LambdaClient;
  readonly workers: readonly LoadedWorker[];
  readonly seed: number;
  /** Of a long call. */
  readonly longSeconds: number;
}

/** Calls of all kinds to all workers, until told to end. */
export class Load {
  readonly calls: LoadedCall[] = [];
  readonly #options: LoadOptions;
  readonly #random: Random;
  readonly #callers: Promise<void>[];
  readonly #underWay = new Map<CallEvent, CallKind>();
  #isOver = false;
  #next = 0;

  constructor(options: LoadOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
    this.#callers = options.workers.flatMap((worker) =>
      Array.from({ length: worker.callers }, () => this.#callOn(worker)),
    );
  }

  /** Kinds of the calls that are under way. */
  get underWay(): readonly CallKind[] {
    return [...this.#underWay.values()];
  }

  /** Begins no call any more, and waits for the ends of those under way. */
  async end(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#callers);
  }

  async #callOn(worker: LoadedWorker): Promise<void> {
    while (!this.#isOver) {
      await this.#call(worker);
      // A worker that is paused after a second, by an agent that lives about as long.
      await setTimeout(worker.isPausing ? this.#random.between(3_000, 20_000) : this.#random.between(0, 200));
    }
  }

  async #call(worker: LoadedWorker): Promise<void> {
    const { lambda, longSeconds } = this.#options;
    const kind = this.#kindFor(worker);
    this.#next += 1;
    const asked = { parts: 0, filler: 0, ...kinds[kind].event(this.#random, longSeconds) };
    const parts = worker.streams === 'Always' ? Math.max(1, asked.parts) : asked.parts;
    const event = { ...asked, id: `call-${this.#next}`, parts, pause: parts === 0 ? 0 : asked.sleep / parts };
    const beganAt = performance.now();
    const send = kind === 'streamed' ? callStreamed : callOnce;
    this.#underWay.set(event, kind);
    const { end, why } = await send(lambda, worker.name, event).catch((error: Error) => ({
      end: error.name === 'ServiceException' ? ('Refused' as const) : ('Failed' as const),
      why: `${error.name}: ${messageOf(error)}`,
    }));
    this.#underWay.delete(event);
    this.calls.push({ worker: worker.name, kind, event, end, why, beganAt, endedAt: performance.now() });
  }

  #kindFor({ streams }: LoadedWorker): CallKind {
    const { short, big, bulky, long, streamed } = kinds;
    return this.#random.weighted({
      bulky: bulky.weight,
      short: short.weight,
      big: big.weight,
      long: long.weight,
      streamed: streams === 'Never' ? 0 : streamed.weight,
    });
  }
}

type End = Pick<LoadedCall, 'end' | 'why'>;

function payloadOf(event: CallEvent): string {
  return JSON.stringify({ ...event, filler: 'y'.repeat(event.filler) });
}

async function callOnce(lambda: LambdaClient, name: string, event: CallEvent): Promise<End> {
  const { FunctionError, Payload } = await lambda.send(
    new InvokeCommand({ FunctionName: name, Payload: payloadOf(event) }),
  );
  return judge(event, FunctionError, Buffer.from(Payload ?? []).toString());
}

async function callStreamed(lambda: LambdaClient, name: string, event: CallEvent): Promise<End> {
  const { EventStream = [] } = await lambda.send(
    new InvokeWithResponseStreamCommand({ FunctionName: name, Payload: payloadOf(event) }),
  );
  const parts: Uint8Array[] = [];
  for await (const { PayloadChunk, InvokeComplete } of EventStream) {
    parts.push(PayloadChunk?.Payload ?? new Uint8Array());
    if (InvokeComplete?.ErrorCode !== undefined) {
      return judge(event, InvokeComplete.ErrorCode, InvokeComplete.ErrorDetails ?? '');
    }
  }
  return judge(event, undefined, Buffer.concat(parts).toString());
}

function judge(event: CallEvent, error: string | undefined, text: string): End {
  if (error !== undefined) {
    return { end: text.includes('OutcomeUnknown') ? 'Unknown' : 'Failed', why: `${error}: ${text.slice(0, 300)}` };
  }
  return isAnswerTo(event, text)
    ? { end: 'Answered', why: '' }
    : { end: 'Wrong', why: `${text.length} bytes: ${text.slice(0, 100)}` };
}

function isAnswerTo({ id, parts, size }: CallEvent, text: string): boolean {
  const padding = 'x'.repeat(size);
  if (parts > 0) {
    return text === Array.from({ length: parts }, (_, part) => `${id} ${part} ${padding}\n`).join('');
  }
  try {
    return isDeepStrictEqual(JSON.parse(text), { id, padding });
  } catch {
    return false;
  }
}
