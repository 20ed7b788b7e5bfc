import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { repositoryRoot } from '../../local/common/repository.ts';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import type { LambdaWorker } from '../../src/api/lambda-worker.ts';
import { run } from '../support/command.ts';
import { functionManifest } from '../support/function-manifest.ts';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { functionTimeout, instance } from './support/instance.ts';
import { stagedProgram } from './support/staged-function.ts';
import { callsPerSecond, SteadyCalls } from './support/steady-calls.ts';

/** A function that tells which change of itself it is; one of them ends at once. */
const program = stagedProgram(
  'os.environ["STAGE"]',
  'if os.environ["STAGE"] == "broken": sys.exit("this change does not start")',
);

describe('a change of a function, under calls', () => {
  const esb = instance();

  const apply = async (stage: string, spec: object = {}): Promise<void> => {
    const owner = functionManifest(
      'changing',
      {
        scaling: { mode: 'Fixed', minWorkers: 3 },
        rollout: { maxSurge: 1, maxUnavailable: 0, progressDeadlineSeconds: 10 * patience() },
        template: {
          spec: {
            image: esb.image('python-counter'),
            command: ['python3', '-c', program, 'stages.handler'],
            env: [{ name: 'STAGE', value: stage }],
            timeoutSeconds: functionTimeout(),
            // Calls come however long those before them take.
            concurrency: { queueDepth: 1_000 },
            ...spec,
          },
        },
      },
      { annotations: { 'kubernetes.io/change-cause': stage } },
    );
    await esb.kubectl(['apply', '-f', '-'], { input: owner });
  };
  /** Runs `esb rollout` as a user of the instance would; both streams. */
  const rollout = async (command: string, ...args: readonly string[]): Promise<string> => {
    const words = ['rollout', command, 'changing', ...args];
    const { stderr, stdout } = await run(process.execPath, [join(repositoryRoot(), 'local/main.ts'), ...words], {
      env: { ESB_HOME: esb.home },
      timeoutMs: 240_000,
      mayFail: true,
    });
    return stdout + stderr;
  };
  const workers = async (): Promise<readonly LambdaWorker[]> => {
    const { stdout } = await esb.kubectl(['get', 'lw', '-l', 'esb.dev/lambda-function=changing', '-o', 'json']);
    return (JSON.parse(stdout) as { readonly items: readonly LambdaWorker[] }).items;
  };
  const stages = async (): Promise<readonly string[]> =>
    (await workers()).map(({ spec }) => spec.env?.[0]?.value ?? '').toSorted();
  const stateOf = async (): Promise<string> => {
    const { stdout } = await esb.kubectl(['get', 'lf', 'changing', '-o', 'json']);
    const { status } = JSON.parse(stdout) as LambdaFunction;
    return status?.conditions?.find(({ type }) => type === 'Stalled')?.reason ?? status?.conditions?.[0]?.reason ?? '';
  };
  const call = async (): Promise<string> => {
    const url = `${esb.gateway}/2015-03-31/functions/changing/invocations`;
    const response = await fetch(url, { method: 'POST', body: '{}', signal: AbortSignal.timeout(60_000 * patience()) });
    const text = await response.text();
    if (response.status !== 200 || response.headers.has('x-amz-function-error')) {
      throw new Error(`${response.status}: ${text}`);
    }
    return JSON.parse(text) as string;
  };

  it('reaches all workers, stops by itself where it does not start or finds no room, and is undone: no call fails', {
    timeout: 600_000 * patience(),
  }, async () => {
    onTestFinished(async () => {
      await esb.kubectl(['delete', 'lf', 'changing', '--ignore-not-found', `--timeout=${90 * patience()}s`]);
      await waitFor('the workers to be gone', async () => (await workers()).length === 0);
    }, 180_000 * patience());
    await apply('one');
    expect(await rollout('status', '--timeout', '120')).toContain('successfully rolled out');
    await waitFor('the gateway to know the function', () =>
      call().then(
        () => true,
        () => false,
      ),
    );
    const calls = new SteadyCalls(call);
    /** All workers have the stage, and calls from now on are answered by it alone. */
    const everywhere = async (stage: string): Promise<void> => {
      expect(await stages()).toEqual([stage, stage, stage]);
      expect(await calls.stagesFromNow()).toEqual(new Set([stage]));
    };
    try {
      await apply('two');
      expect(await rollout('status', '--timeout', '120')).toContain('successfully rolled out');
      await everywhere('two');

      await apply('broken');
      expect(await rollout('status', '--timeout', '120')).toContain('esb: changing cannot become up to date: ');
      expect(await stages()).toEqual(['broken', 'two', 'two']);
      await waitFor('the deadline', async () => (await stateOf()) === 'ProgressDeadlineExceeded');
      expect(await stages()).toEqual(['broken', 'two', 'two']);
      const lines = (await rollout('history')).trim().split('\n');
      expect(lines.map((line) => line.split(/\s+/).at(-1))).toEqual(['CHANGE-CAUSE', 'one', 'two', 'broken']);
      expect(await rollout('undo')).toContain('rolled back to revision 2');
      expect(await rollout('status', '--timeout', '120')).toContain('successfully rolled out');
      await everywhere('two');

      // More than any node has: the worker serves on, and the others never get it.
      await apply('large', { resources: { limits: { memory: '900Gi' } } });
      expect(await rollout('status', '--timeout', '120')).toMatch(/ProgressDeadlineExceeded: .*changing-latest-\d/);
      expect(await stages()).toEqual(['large', 'two', 'two']);
      expect(await rollout('undo', '--to-revision', '1')).toContain('rolled back to revision 1');
      expect(await rollout('status', '--timeout', '120')).toContain('successfully rolled out');
      await everywhere('one');
    } finally {
      await calls.end();
    }
    console.log(`five changes: ${calls.summary()}`);
    expect(calls.failures).toEqual([]);
    expect(calls.stages).toEqual(new Set(['one', 'two']));
    expect(calls.rate).toBeGreaterThan(0.9 * callsPerSecond);
  });
});
