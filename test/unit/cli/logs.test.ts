import { describe, expect, it } from 'vitest';
import { workersNamed } from '../../../src/cli/logs.ts';
import { workerFixture } from '../../support/worker-fixture.ts';

const worker = (name: string, lastInvocationTime?: string) =>
  workerFixture({
    name,
    spec: { functionName: 'greeter' },
    status: lastInvocationTime === undefined ? {} : { lastInvocationTime },
  });

describe('the name that logs are asked for', () => {
  const first = worker('greeter-latest-0', '2026-11-01T10:00:02Z');
  const second = worker('greeter-latest-1', '2026-11-01T10:00:01Z');
  const third = worker('greeter-latest-2');
  const named = (name: string, ...workers: ReturnType<typeof worker>[]): readonly string[] =>
    workersNamed(name, [first, second, third, ...workers]).map(({ metadata }) => metadata.name);

  it('is that of a worker', () => {
    expect(named('greeter-latest-1')).toEqual(['greeter-latest-1']);
    expect(named('greeter', worker('greeter'))).toEqual(['greeter']);
  });

  it('is that of a function, whose worker that was called last comes last', () => {
    expect(named('greeter')).toEqual(['greeter-latest-2', 'greeter-latest-1', 'greeter-latest-0']);
  });

  it("may be nobody's", () => {
    expect(named('greter')).toEqual([]);
  });
});
