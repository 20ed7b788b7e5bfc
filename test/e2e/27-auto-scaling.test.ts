import { describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import { functionManifest } from '../support/function-manifest.ts';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { functionTimeout, instance } from './support/instance.ts';

/** Seconds that each call runs, and that workers stay after they were last needed. */
const CALL_SECONDS = 4;
const DELAY_SECONDS = 10;

/** A function that tells the process that has run it, in a module that is written nowhere. */
const program = `
import runpy, sys, time, types, uuid
me = str(uuid.uuid4())
def handler(event, context):
    time.sleep(event.get("seconds", 0))
    return {"process": me}
module = types.ModuleType("slow")
module.handler = handler
sys.modules["slow"] = module
runpy.run_module("awslambdaric", run_name="__main__")
`;

describe('a function that grows with its calls', () => {
  const esb = instance();

  const workers = async (): Promise<readonly string[]> => {
    const { stdout } = await esb.kubectl(['get', 'lw', '-l', 'esb.dev/lambda-function=growing', '-o', 'name']);
    return stdout.split('\n').filter((name) => name !== '');
  };
  const have = (count: number) =>
    waitFor(`${count} workers`, async () => (await workers()).length === count, { timeoutMs: 90_000, everyMs: 200 });
  const readiness = async (): Promise<string | undefined> => {
    const { stdout } = await esb.kubectl(['get', 'lf', 'growing', '-o', 'json']);
    const { status } = JSON.parse(stdout) as LambdaFunction;
    return status?.conditions?.find(({ type }) => type === 'Ready')?.status;
  };
  const call = async (seconds: number): Promise<string> => {
    const response = await fetch(`${esb.gateway}/2015-03-31/functions/growing/invocations`, {
      method: 'POST',
      body: JSON.stringify({ seconds }),
      signal: AbortSignal.timeout(120_000 * patience()),
    });
    const text = await response.text();
    if (response.status !== 200 || response.headers.has('x-amz-function-error')) {
      throw new Error(`${response.status}: ${text}`);
    }
    return (JSON.parse(text) as { readonly process: string }).process;
  };

  it(
    'answers five calls at once from one spare worker, and has one again after the delay',
    async () => {
      onTestFinished(async () => {
        await esb.kubectl(['delete', 'lf', 'growing', '--ignore-not-found', `--timeout=${90 * patience()}s`]);
        await waitFor('the workers to be gone', async () => (await workers()).length === 0);
      }, 180_000 * patience());
      const owner = functionManifest('growing', {
        scaling: { mode: 'Auto', minWorkers: 0, maxWorkers: 5, scaleDownDelaySeconds: DELAY_SECONDS },
        template: {
          spec: {
            image: esb.image('python-counter'),
            command: ['python3', '-c', program, 'slow.handler'],
            timeoutSeconds: functionTimeout() + 2 * CALL_SECONDS,
          },
        },
      });
      await esb.kubectl(['apply', '-f', '-'], { input: owner });
      await have(1);
      await waitFor('the function to be ready', async () => (await readiness()) === 'True', { timeoutMs: 90_000 });
      await waitFor('the gateway to know the worker', () =>
        call(0).then(
          () => true,
          () => false,
        ),
      );
      const two = [call(2 * CALL_SECONDS), call(2 * CALL_SECONDS)];
      // As many as there are calls, and a spare one.
      await have(3);
      expect(await readiness()).toBe('True');
      await Promise.all(two);

      const [processes, most] = await Promise.all([
        Promise.all(Array.from({ length: 5 }, () => call(CALL_SECONDS))),
        have(5),
      ]);
      expect(most).toBe(true);
      // None of them has waited for all of the others.
      expect(new Set(processes).size).toBeGreaterThan(2);
      await have(1);
      expect(await readiness()).toBe('True');
      await expect(call(0)).resolves.toMatch(/-/);
    },
    300_000 * patience(),
  );
});
