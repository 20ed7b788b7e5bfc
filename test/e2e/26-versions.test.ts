import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { LambdaFunction } from '../../src/api/lambda-function.ts';
import { functionManifest } from '../support/function-manifest.ts';
import { patience } from '../support/patience.ts';
import { waitFor } from '../support/wait-for.ts';
import { functionTimeout, instance } from './support/instance.ts';
import { stagedProgram } from './support/staged-function.ts';
import { callsPerSecond, SteadyCalls } from './support/steady-calls.ts';

/** Answer of the function below. */
interface VersionAnswer {
  readonly stage: string;
  readonly version: string;
  readonly contextVersion: string;
  readonly arn: string;
}

/** A function that tells which version of itself it is. */
const program = stagedProgram(`{"stage": os.environ["STAGE"], "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
            "contextVersion": context.function_version, "arn": context.invoked_function_arn}`);

describe('versions and aliases of a function', () => {
  const esb = instance();

  const apply = async (stage: string, spec: object): Promise<void> => {
    const owner = functionManifest('staged', {
      scaling: { mode: 'Fixed', minWorkers: 2 },
      template: {
        spec: {
          image: esb.image('python-counter'),
          command: ['python3', '-c', program, 'stages.handler'],
          env: [{ name: 'STAGE', value: stage }],
          timeoutSeconds: functionTimeout(),
          // Calls come however long those before them take.
          concurrency: { queueDepth: 1_000 },
        },
      },
      ...spec,
    });
    await esb.kubectl(['apply', '-f', '-'], { input: owner });
  };
  const staged = async (): Promise<LambdaFunction> =>
    JSON.parse((await esb.kubectl(['get', 'lf', 'staged', '-o', 'json'])).stdout) as LambdaFunction;
  const when = (what: string, test: (owner: LambdaFunction) => boolean): Promise<LambdaFunction> =>
    waitFor(
      `the function to have ${what}`,
      async () => {
        const owner = await staged();
        return test(owner) ? owner : undefined;
      },
      { timeoutMs: 120_000, everyMs: 200 },
    );
  const inEffect = (alias: object): Promise<LambdaFunction> =>
    when(`${JSON.stringify(alias)} in effect`, ({ status }) => isDeepStrictEqual(status?.aliases, [alias]));
  const workersOf = async (version: string): Promise<readonly string[]> => {
    const { stdout } = await esb.kubectl(['get', 'lw', '-l', `esb.dev/lambda-version=${version}`, '-o', 'name']);
    return stdout.split('\n').filter((name) => name !== '');
  };
  /** One call without a client of AWS, which would make ten thousand of them slow. */
  const call = async (qualifier: string): Promise<{ readonly told: string | null; readonly answer: VersionAnswer }> => {
    const url = `${esb.gateway}/2015-03-31/functions/staged/invocations?Qualifier=${qualifier}`;
    const response = await fetch(url, { method: 'POST', body: '{}', signal: AbortSignal.timeout(60_000 * patience()) });
    const text = await response.text();
    if (response.status !== 200) {
      throw new Error(`${response.status}: ${text}`);
    }
    return { told: response.headers.get('x-amz-executed-version'), answer: JSON.parse(text) as VersionAnswer };
  };

  it('are published, called by weight, and switched under calls without a failure', async () => {
    onTestFinished(async () => {
      await esb.kubectl(['delete', 'lf', 'staged', '--ignore-not-found', `--timeout=${90 * patience()}s`]);
      await waitFor('the workers to be gone', async () => {
        const { stdout } = await esb.kubectl(['get', 'lw', '-l', 'esb.dev/lambda-function=staged', '-o', 'name']);
        return stdout.trim() === '';
      });
    }, 180_000 * patience());

    await apply('one', { publishToken: 'one', aliases: [{ name: 'live', version: 1 }] });
    await inEffect({ name: 'live', version: 1 });
    const arn = 'arn:aws:lambda:us-east-1:012345678912:function:staged';
    await waitFor('the gateway to know the alias', () =>
      call('live').then(
        () => true,
        () => false,
      ),
    );
    expect(await call('live')).toEqual({
      told: '1',
      answer: { stage: 'one', version: '1', contextVersion: '1', arn: `${arn}:live` },
    });
    expect((await esb.invoke<VersionAnswer>('staged')).payload).toMatchObject({ version: '$LATEST', arn });
    const { stdout: image } = await esb.kubectl([
      'get',
      'lv',
      'staged-1',
      '-o',
      'jsonpath={.spec.template.spec.image}',
    ]);
    expect(image).toMatch(/@sha256:[0-9a-f]{64}$/);

    // The template goes on, and the version does not.
    await apply('two', { publishToken: 'two', aliases: [{ name: 'live', version: 1 }] });
    await when(
      'a second version',
      ({ status }) => status?.latestVersion === 2 && status.publication?.state === 'Created',
    );
    expect((await call('live')).answer.stage).toBe('one');
    const shared = { name: 'live', version: 1, routing: [{ version: 2, permille: 100 }] };
    await apply('two', { publishToken: 'two', aliases: [shared] });
    await inEffect(shared);
    await waitFor('the second version to be called', async () => (await call('live')).told === '2', { everyMs: 1 });
    let left = 10_000;
    const counts = new Map<string, number>();
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        while (left > 0) {
          left -= 1;
          const { answer, told } = await call('live');
          expect(answer.version).toBe(told);
          expect(answer.stage).toBe(told === '2' ? 'two' : 'one');
          counts.set(answer.version, (counts.get(answer.version) ?? 0) + 1);
        }
      }),
    );
    console.log(`of 10,000 calls of an alias with 100 permille: ${counts.get('2')} to the second version`);
    expect((counts.get('1') ?? 0) + (counts.get('2') ?? 0)).toBe(10_000);
    // Five standard deviations; one run in a thousand is outside of 900 to 1,100 by chance.
    expect(counts.get('2')).toBeGreaterThan(850);
    expect(counts.get('2')).toBeLessThan(1_150);

    // There and back, under calls.
    const calls = new SteadyCalls(async () => (await call('live')).answer.version);
    try {
      for (const [version, other] of [
        [2, '1'],
        [1, '2'],
      ] as const) {
        await apply('two', { publishToken: 'two', aliases: [{ name: 'live', version }] });
        await inEffect({ name: 'live', version });
        await waitFor(`workers of version ${other} to leave`, async () => (await workersOf(other)).length === 0, {
          timeoutMs: 60_000,
        });
        expect(await calls.stagesFromNow()).toEqual(new Set([String(version)]));
      }
    } finally {
      await calls.end();
    }
    console.log(`an alias went there and back: ${calls.summary()}`);
    expect(calls.failures).toEqual([]);
    expect(calls.stages).toEqual(new Set(['1', '2']));
    expect(calls.rate).toBeGreaterThan(0.9 * callsPerSecond);

    // The SDK calls again, as people's do, while the gateway does not hear from the API server whether there is one.
    const client = esb.lambda(esb.gateway, 8);
    await expect(esb.invoke('staged', {}, { client, Qualifier: 'nope' })).rejects.toMatchObject({
      name: 'ResourceNotFoundException',
      message: `Function not found: ${arn}:nope`,
    });
    await expect(esb.invoke('staged', {}, { Qualifier: '2' })).rejects.toMatchObject({ name: 'ServiceException' });
  }, 600_000);
});
