import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadSync } from '@grpc/proto-loader';
import { describe, expect, it, onTestFinished } from 'vitest';
import { trailerOf } from '../../../src/agent/rpc/invoke-trailer.ts';
import { AgentCall } from '../../../src/gateway/agents/agent-call.ts';
import { loadAgentProtocol } from '../../../src/gateway/agents/agent-protocol.ts';
import { loadAgentProto } from '../../../src/protocol/agent-proto.ts';
import type { AgentMethods, InvokeManyResponse } from '../../../src/protocol/generated/agent.ts';
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

const earlier = (): AgentMethods =>
  otherRelease((text) =>
    text.replaceAll(/^ *Reason reason_code = \d+;\n/gm, '').replace(/^enum Reason \{[^}]*\}\n/m, ''),
  );

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

const started = Object.values(REASONS).filter((reason) => reason.started === 'maybe');
const refusals = Object.values(REASONS).filter((reason) => reason.started === 'no');

describe('the reason of a call from an agent of an earlier release', () => {
  it.each(refusals)('$name is read from its word: a refusal', async ({ name }) => {
    const answer = { kind: 'Refused', reason: name, message: 'm' };
    await expect(
      taken(earlier(), { answer: { trailer: { outcome: 'OUTCOME_REFUSED', reason: name, message: 'm' } } }),
    ).resolves.toEqual(answer);
    await expect(taken(earlier(), { failure: { code: name, message: 'm' } })).resolves.toEqual(answer);
  });

  it.each(started)('$name is read from its word: an unknown outcome', async ({ name }) => {
    const answer = { kind: 'Unknown', reason: name, message: 'm' };
    await expect(
      taken(earlier(), { answer: { trailer: { outcome: 'OUTCOME_UNKNOWN', reason: name, message: 'm' } } }),
    ).resolves.toEqual(name === 'AgentStopped' ? { ...answer, soFar: expect.objectContaining({ size: 0 }) } : answer);
    await expect(taken(earlier(), { failure: { code: name, message: 'm' } })).resolves.toEqual(answer);
  });
});

describe('the reason of a call to a gateway of an earlier release', () => {
  it.each(Object.entries(REASONS))('%s is sent as a word beside its value', (code, { name, started }) => {
    const trailer = trailerOf(
      started === 'no'
        ? { kind: 'Refused', reason: name, message: 'm' }
        : { kind: 'Unknown', reason: name, message: 'm', stamp: '' },
    );
    const bytes = loadAgentProto().agent.Invoke.responseSerialize({ trailer });
    expect(earlier().Invoke.responseDeserialize(bytes).trailer).toMatchObject({
      outcome: started === 'no' ? 'OUTCOME_REFUSED' : 'OUTCOME_UNKNOWN',
      reason: name,
      message: 'm',
    });
    expect(loadAgentProto().agent.Invoke.responseDeserialize(bytes).trailer?.reasonCode).toBe(code);
  });
});

describe('a reason of this release', () => {
  it('is read from its value before its word', async () => {
    const { agent } = loadAgentProto();
    const failure = { code: 'ConnectionLost', message: 'm', reasonCode: 'REASON_QUEUE_FULL' } as const;
    await expect(taken(agent, { failure })).resolves.toMatchObject({ kind: 'Refused', reason: 'QueueFull' });
  });
});

describe('a reason of a later release', () => {
  const reasonCode = 'REASON_TOO_TIRED' as never;

  it('is read from its word where that is known', async () => {
    await expect(taken(later(), { failure: { code: 'QueueFull', message: 'm', reasonCode } })).resolves.toMatchObject({
      kind: 'Refused',
      reason: 'QueueFull',
    });
  });

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
