import { describe, expect, it } from 'vitest';
import { statusOf } from '../../../src/agent/model/conditions.ts';
import type { StatusInput } from '../../../src/agent/model/status-input.ts';
import type { Verdict } from '../../../src/api/condition.ts';
import type { ErrorCode } from '../../../src/common/error-codes.ts';
import { desiredFixture } from '../../support/fleet-lab.ts';

function imageReady(change: Partial<StatusInput>): Verdict | undefined {
  return statusOf({
    desired: desiredFixture(),
    goal: { kind: 'Running', shapeHash: 'v1-0' } as StatusInput['goal'],
    observed: 'Missing',
    traces: false,
    info: undefined,
    acting: undefined,
    step: undefined,
    detail: undefined,
    failure: undefined,
    nodeFull: undefined,
    cold: false,
    previous: undefined,
    ...change,
  } as StatusInput).conditions.ImageReady;
}
const failure = (code: ErrorCode, delaySeconds: number): StatusInput['failure'] => ({
  code,
  message: 'pulling registry.example/hello:1: the registry does not answer',
  exited: false,
  delaySeconds,
});

describe('the condition ImageReady', () => {
  it('tells how far a pull is', () => {
    const pulling = { acting: 'Ensure', step: 'Pulling' } as const;
    expect(imageReady(pulling)).toEqual({
      status: 'False',
      reason: 'Pulling',
      message: 'pulling registry.example/hello:1',
    });
    const detail = '34.1 of 120.0 MiB (28 %)';
    expect(imageReady({ ...pulling, detail })?.message).toBe(`pulling registry.example/hello:1: ${detail}`);
    // Bytes come: the last attempt's trouble is over.
    expect(imageReady({ ...pulling, detail, failure: failure('RegistryUnreachable', 0) })?.message).toBe(
      `pulling registry.example/hello:1: ${detail}`,
    );
  });

  it.each(['RegistryUnreachable', 'ImageNotFound', 'PullSecretForbidden', 'PullSecretUnreadable'] as const)(
    'tells of %s, and when it is tried again',
    (code) => {
      expect(imageReady({ failure: failure(code, 8) })).toEqual({
        status: 'False',
        reason: code,
        message: 'pulling registry.example/hello:1: the registry does not answer; next attempt in 8 s',
      });
      expect(imageReady({ failure: failure(code, 0) })?.message).not.toContain('next attempt');
    },
  );

  it('does not tell of what has nothing to do with the image', () => {
    expect(imageReady({ failure: failure('NetworkFailed', 8) })).toBeUndefined();
  });
});
