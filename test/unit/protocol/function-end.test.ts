import { describe, expect, it } from 'vitest';
import type { FunctionEnd } from '../../../src/agent/model/invocation.ts';
import { trailerOf } from '../../../src/agent/rpc/invoke-answer.ts';
import { loadAgentProtocol } from '../../../src/gateway/agents/agent-protocol.ts';
import { loadAgentProto } from '../../../src/protocol/agent-proto.ts';

/** The trailer of a call as a gateway reads it. */
function told(end: FunctionEnd) {
  const timings = { queued: 0, wake: 0, run: 1, start: 'running' } as const;
  const trailer = trailerOf({ kind: 'Answered', stamp: '', timings, end });
  return loadAgentProtocol().decodeInvoke(loadAgentProto().agent.Invoke.responseSerialize({ trailer })).trailer;
}

describe('the end of a function', () => {
  it('comes to a gateway with all that its worker said', () => {
    expect(told({ outcome: 'Error', errorType: 'E', lateError: '{}' })).toMatchObject({
      outcome: 'OUTCOME_ANSWERED',
      functionEnd: { outcome: 'FUNCTION_OUTCOME_ERROR', errorType: 'E', lateError: '{}' },
    });
  });

  it('of a call in the emulator is not told', () => {
    const timings = { queued: 0, wake: 0, run: 1, start: 'running' } as const;
    expect(trailerOf({ kind: 'Answered', stamp: '', timings })).not.toHaveProperty('functionEnd');
  });
});
