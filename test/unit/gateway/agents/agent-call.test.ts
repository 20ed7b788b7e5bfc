import { describe, expect, it } from 'vitest';
import { MAX_RESPONSE_BYTES } from '../../../../src/common/emulator-answer.ts';
import { AgentCall, type AnswerSink, MAX_STREAMED_BYTES } from '../../../../src/gateway/agents/agent-call.ts';
import type { InvokeResponse, InvokeTrailer } from '../../../../src/protocol/generated/agent.ts';

const trailer: InvokeTrailer = {
  outcome: 'OUTCOME_ANSWERED',
  reason: '',
  reasonCode: 'REASON_UNSPECIFIED',
  message: '',
  stamp: '',
  timings: null,
  logTail: Buffer.alloc(0),
  functionEnd: null,
  initFault: null,
};

function piece(chunk: Buffer): InvokeResponse {
  return { head: null, chunk, trailer: null };
}

/** A call whose answer goes to a caller that reads when it is told to. */
function streamedCall() {
  const got = { begun: 0, bytes: 0, read: 0, cancelled: false };
  const unread: (() => void)[] = [];
  const sink: AnswerSink = {
    begin: () => {
      got.begun += 1;
    },
    chunk: (bytes, taken) => {
      got.bytes += bytes.length;
      unread.push(taken);
    },
  };
  const one = new AgentCall(Number.POSITIVE_INFINITY, () => undefined, sink);
  one.way = {
    neverSeen: false,
    cancel: () => {
      got.cancelled = true;
    },
    onRead: (bytes) => {
      got.read = bytes;
    },
  };
  const read = (): void => {
    for (const taken of unread.splice(0)) {
      taken();
    }
  };
  return { one, got, read };
}

const streamingHead: InvokeResponse = {
  head: { status: 200, contentType: 'text/plain', streaming: true },
  chunk: Buffer.alloc(0),
  trailer: null,
};

function call(): AgentCall {
  return new AgentCall(Number.POSITIVE_INFINITY, () => undefined);
}

it('an answer takes a few bytes of memory for each of its own, in however small pieces an agent tells it', async () => {
  const one = call();
  const count = 100_000;
  const used = (): number => {
    global.gc?.();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    return heapUsed + arrayBuffers;
  };
  const before = used();
  for (let index = 0; index < count; index += 1) {
    one.take(piece(Buffer.from(new Uint8Array([120]).buffer)));
  }
  const grown = used() - before;
  one.take({ head: { status: 200, contentType: '', streaming: false }, chunk: Buffer.alloc(0), trailer });
  expect(await one.answer).toMatchObject({ kind: 'Answered', head: { status: 200 }, size: count });
  expect(grown / count).toBeLessThan(64);
});

it('an answer is whole in one piece and in several, and cut off where it is too large', async () => {
  for (const pieces of [['{}'], ['{', '"a"', ':1}'], []]) {
    const one = call();
    for (const text of pieces) {
      one.take(piece(Buffer.from(text)));
    }
    one.take({ head: null, chunk: Buffer.alloc(0), trailer });
    expect(await one.answer).toMatchObject({ body: Buffer.from(pieces.join('')) });
  }
  const large = call();
  for (let size = 0; size <= MAX_RESPONSE_BYTES + 2 ** 20; size += 2 ** 20) {
    large.take(piece(Buffer.alloc(2 ** 20, 32)));
  }
  large.take({ head: null, chunk: Buffer.alloc(0), trailer });
  const answer = await large.answer;
  expect(answer.kind === 'Answered' && answer.body.length <= MAX_RESPONSE_BYTES).toBe(true);
  expect(answer.kind === 'Answered' && answer.size > MAX_RESPONSE_BYTES).toBe(true);
});

describe('an answer that is streamed', () => {
  it('goes to the sink and not into memory, and its agent hears what was read', async () => {
    const { one, got, read } = streamedCall();
    one.take(streamingHead);
    one.take(piece(Buffer.alloc(1_000)));
    expect(got).toEqual({ begun: 1, bytes: 1_000, read: 0, cancelled: false });
    read();
    expect(got.read).toBe(1_000);
    one.take({ head: null, chunk: Buffer.alloc(0), trailer });
    expect(await one.answer).toMatchObject({ kind: 'Answered', streamed: true, size: 1_000, body: Buffer.alloc(0) });
  });

  it('that goes on by the next run of its agent counts what is read of its beginning', async () => {
    const { one, read } = streamedCall();
    one.take(streamingHead);
    one.take(piece(Buffer.alloc(1_000)));
    one.lose('the agent ended');
    const lost = await one.answer;
    const soFar = lost.kind === 'Unknown' ? lost.soFar : undefined;
    const next = new AgentCall(
      Number.POSITIVE_INFINITY,
      () => undefined,
      { begin() {}, chunk: (_, taken) => taken() },
      soFar,
    );
    const told: number[] = [];
    next.way = { neverSeen: false, cancel() {}, onRead: (bytes) => told.push(bytes) };
    read();
    next.take(piece(Buffer.alloc(500)));
    expect(told).toEqual([1_000, 1_500]);
  });

  it('of an agent that sends on unasked is cut off', async () => {
    const { one, got } = streamedCall();
    one.take(streamingHead);
    for (let mebibyte = 0; mebibyte < 8; mebibyte += 1) {
      one.take(piece(Buffer.alloc(2 ** 20)));
    }
    expect(await one.answer).toMatchObject({ kind: 'Unknown', reason: 'InvalidAnswer' });
    expect(got).toMatchObject({ bytes: 4 * 2 ** 20, cancelled: true });
  });

  it('ends at 200 MB', async () => {
    const { one, got, read } = streamedCall();
    one.take(streamingHead);
    const chunk = Buffer.alloc(2 ** 20);
    for (let mebibyte = 0; mebibyte < 300; mebibyte += 1) {
      one.take(piece(chunk));
      read();
    }
    expect(await one.answer).toMatchObject({ kind: 'Unknown' });
    expect(got.bytes).toBe(MAX_STREAMED_BYTES);
  });

  it('is unknown where its agent refuses it after its beginning', async () => {
    const { one } = streamedCall();
    one.take(streamingHead);
    one.take({
      head: null,
      chunk: Buffer.alloc(0),
      trailer: { ...trailer, outcome: 'OUTCOME_REFUSED', reason: 'QueueFull', reasonCode: 'REASON_QUEUE_FULL' },
    });
    expect(await one.answer).toMatchObject({ kind: 'Unknown', reason: 'QueueFull' });
  });

  it('is gathered where the runtime does not stream it, and read at once', async () => {
    const { one, got } = streamedCall();
    one.take({ ...streamingHead, head: { status: 200, contentType: '', streaming: false } });
    one.take(piece(Buffer.from('{}')));
    expect(got).toEqual({ begun: 0, bytes: 0, read: 2, cancelled: false });
    one.take({ head: null, chunk: Buffer.alloc(0), trailer });
    expect(await one.answer).toMatchObject({ kind: 'Answered', streamed: false, body: Buffer.from('{}') });
  });
});
