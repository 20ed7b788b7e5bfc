import { describe, expect, it } from 'vitest';
import { type Status, statusOf } from '../../../../src/agent/model/conditions.ts';
import type { StatusInput } from '../../../../src/agent/model/status-input.ts';
import { desiredFixture } from '../../../support/fleet-lab.ts';

function statusWith(change: Partial<StatusInput>): Status {
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
  } as StatusInput);
}

describe('a worker that has failed and is to be started again', () => {
  const failure: StatusInput['failure'] = {
    code: 'Error',
    message: 'exited with code 1',
    exited: true,
    delaySeconds: 10,
  };

  it('is shown as Failed, with the pause before its next start', () => {
    const { conditions, phase } = statusWith({ failure });
    expect([phase, conditions.Ready]).toEqual([
      'Failed',
      { status: 'False', reason: 'CrashLoopBackOff', message: 'starts again in 10 s: exited with code 1' },
    ]);
  });

  it('is shown to wait for room where it has found none at its next start', () => {
    const { conditions, phase } = statusWith({ failure, nodeFull: 'no room for 128 MiB' });
    expect([phase, conditions.Ready]).toEqual([
      'Pending',
      { status: 'False', reason: 'NodeFull', message: 'no room for 128 MiB' },
    ]);
  });
});
