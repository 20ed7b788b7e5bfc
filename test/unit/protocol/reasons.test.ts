import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';
import { describe, expect, it, onTestFinished } from 'vitest';
import { trailerOf } from '../../../src/agent/rpc/invoke-answer.ts';
import { AgentCall } from '../../../src/gateway/agents/agent-call.ts';
import { loadAgentProtocol } from '../../../src/gateway/agents/agent-protocol.ts';
import { loadAgentProto } from '../../../src/protocol/agent-proto.ts';
import type { AgentMethods, InvokeManyResponse, Reason } from '../../../src/protocol/generated/agent.ts';
import { REASONS } from '../../../src/protocol/reasons.ts';
import type { Sparse } from '../../../src/protocol/sparse.ts';

const file = join(import.meta.dirname, '../../../proto/esb/agent/v1/agent.proto');

/** The protocol with its text changed, as another release has it. */
function otherRelease(change: (text: string) => string): AgentMethods {
  const folder = mkdtempSync(join(tmpdir(), 'esb-protocol-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'agent.proto');
  writeFileSync(path, change(readFileSync(file, 'utf8')));
  return loadSync(path, { longs: Number, enums: String, defaults: true })[
    'esb.agent.v1.Agent'
  ] as unknown as AgentMethods;
}

const later = (): AgentMethods =>
  otherRelease((text) => text.replace('  // The worker may', '  REASON_TOO_TIRED = 31;\n$&'));

/** How a gateway of this release takes the answer of an agent. */
async function taken(agent: AgentMethods, message: Sparse<InvokeManyResponse>) {
  const { answer, failure } = loadAgentProtocol().decodeInvokeMany(
    agent.InvokeMany.responseSerialize({ call: 1, ...message }),
  );
  const call = new AgentCall(Number.POSITIVE_INFINITY, () => undefined);
  if (answer !== null) {
    call.take(answer);
  }
  if (failure !== null) {
    call.fail(failure);
  }
  return await call.answer;
}

describe('a reason of this release', () => {
  it.each(Object.entries(REASONS))(
    '%s says by its value whether a call was started',
    async (code, { name, started }) => {
      const { agent } = loadAgentProto();
      const trailer = trailerOf(
        started === 'no'
          ? { kind: 'Refused', reason: name, message: 'm' }
          : { kind: 'Unknown', reason: name, message: 'm', stamp: '' },
      );
      const ended = { kind: started === 'no' ? 'Refused' : 'Unknown', reason: name, message: 'm' };
      await expect(taken(agent, { answer: { trailer } })).resolves.toMatchObject(ended);
      const failure = { code: 'Any', message: 'm', reasonCode: code as Reason };
      await expect(taken(agent, { failure })).resolves.toMatchObject(ended);
    },
  );

  it('is not read from its word', async () => {
    const { agent } = loadAgentProto();
    const failure = { code: 'QueueFull', message: 'm' } as const;
    await expect(taken(agent, { failure })).resolves.toMatchObject({ kind: 'Unknown', reason: 'QueueFull' });
  });
});

describe('a reason of a later release', () => {
  const reasonCode = 'REASON_TOO_TIRED' as never;

  it('leaves the outcome of a call unknown that ended with a failure', async () => {
    await expect(taken(later(), { failure: { code: 'TooTired', message: 'm', reasonCode } })).resolves.toEqual({
      kind: 'Unknown',
      reason: 'TooTired',
      message: 'm',
    });
  });

  it('leaves a refusal one, which passes: the outcome says that nothing was sent', async () => {
    const trailer = { outcome: 'OUTCOME_REFUSED', reason: 'TooTired', message: 'm', reasonCode } as const;
    await expect(taken(later(), { answer: { trailer } })).resolves.toEqual({
      kind: 'Refused',
      reason: 'Unavailable',
      message: 'm',
    });
  });

  it('is never one of a call that was not started where the outcome is new as well', async () => {
    const release = otherRelease((text) =>
      text
        .replace('  OUTCOME_TIMED_OUT = 4;', '$&\n  OUTCOME_POSTPONED = 5;')
        .replace('  // The worker may', '  REASON_TOO_TIRED = 31;\n$&'),
    );
    const trailer = { outcome: 'OUTCOME_POSTPONED' as never, reason: 'QueueFull', message: 'm', reasonCode };
    await expect(taken(release, { answer: { trailer } })).resolves.toMatchObject({ kind: 'Unknown' });
  });
});
