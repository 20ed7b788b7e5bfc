import { expect, it } from 'vitest';
import { MAX_RESPONSE_BYTES } from '../../../../src/common/emulator-answer.ts';
import { AgentCall } from '../../../../src/gateway/agents/agent-call.ts';
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
};

function piece(chunk: Buffer): InvokeResponse {
  return { head: null, chunk, trailer: null };
}

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
