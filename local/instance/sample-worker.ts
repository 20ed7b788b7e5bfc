import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { request } from 'undici';
import { parse } from 'yaml';
import { callCredentials, provenHeaders } from '../../src/cli/call-credentials.ts';
import type { Step } from '../../src/cli/progress.ts';
import { lookUntil, pause } from '../../src/cli/wait.ts';
import { EsbError, messageOf } from '../../src/common/errors.ts';
import { localCode } from '../common/error-codes.ts';
import { repositoryRoot } from '../common/repository.ts';
import { type Instance, kubectl } from './instance.ts';

/** One call of the sample function and the state that its worker was in. */
export interface SampleCall {
  readonly start: 'cold' | 'running' | 'paused' | 'as found';
  readonly milliseconds: number;
  /** Calls that this worker has answered since its start. */
  readonly counter: number;
}

interface SampleWorker {
  readonly metadata: { readonly name: string };
  readonly spec: Readonly<Record<string, unknown>>;
}

const FUNCTION = 'hello';
const PHASE_DEADLINE_MS = 60_000;
const CALL_DEADLINE_MS = 30_000;
const CALL_ATTEMPTS = 5;

/**
 * Applies the sample worker and calls it cold, running and paused. An existing worker is called once, in its present
 * state.
 *
 * @throws {EsbError} `SampleFailed` with the worker's conditions
 */
export async function callSample(instance: Instance, step: Step, signal: AbortSignal): Promise<readonly SampleCall[]> {
  const { home } = instance;
  const found = await kubectl(home, ['get', 'lambdaworker', FUNCTION, '--ignore-not-found', '-o', 'name'], {
    signal,
  });
  const isNew = found.stdout.trim() === '';
  const file = join(repositoryRoot(), 'manifests/samples/hello.yaml');
  const sample = parse(await readFile(file, 'utf8')) as SampleWorker;
  const worker = {
    ...sample,
    spec: { ...sample.spec, image: `${instance.registry}/python-counter:latest`, desiredState: 'Running' },
  };
  const apply = (): Promise<unknown> => kubectl(home, ['apply', '-f', '-'], { input: JSON.stringify(worker), signal });
  step.note('applying it and waiting for it to be Ready');
  await apply();
  await waitForReady(instance, signal);
  if (!isNew) {
    return [await call(instance, 'as found', signal)];
  }
  const calls: SampleCall[] = [];
  step.note('waiting for it to be Absent');
  await rest(instance, 'Absent', signal);
  calls.push(await call(instance, 'cold', signal));
  calls.push(await call(instance, 'running', signal));
  step.note('waiting for it to be Paused');
  await rest(instance, 'Paused', signal);
  calls.push(await call(instance, 'paused', signal));
  await apply();
  await waitForReady(instance, signal);
  return calls;
}

async function waitForReady(instance: Instance, signal: AbortSignal): Promise<void> {
  try {
    await kubectl(instance.home, ['wait', `lambdaworker/${FUNCTION}`, '--for=condition=Ready', '--timeout=60s'], {
      signal,
      deadlineMs: PHASE_DEADLINE_MS + 10_000,
    });
  } catch (error) {
    throw new EsbError(`the sample worker is not Ready:\n${await describe(instance, signal)}`, {
      code: localCode('SampleFailed'),
      cause: error,
    });
  }
}

/** Gives the worker another resting state and waits until the worker is in it. */
async function rest(instance: Instance, state: 'Absent' | 'Paused', signal: AbortSignal): Promise<void> {
  const patch = JSON.stringify({ spec: { desiredState: state } });
  await kubectl(instance.home, ['patch', 'lambdaworker', FUNCTION, '--type=merge', '-p', patch], { signal });
  const args = ['get', 'lambdaworker', FUNCTION, '-o', 'jsonpath={.status.phase}'];
  const look = async (): Promise<string> => (await kubectl(instance.home, args, { signal })).stdout;
  const phase = await lookUntil(look, (found) => found === state, { withinMs: PHASE_DEADLINE_MS, signal });
  if (phase !== state) {
    throw new EsbError(`the sample worker is not ${state}:\n${await describe(instance, signal)}`, {
      code: localCode('SampleFailed'),
    });
  }
}

async function call(instance: Instance, start: SampleCall['start'], signal: AbortSignal): Promise<SampleCall> {
  const url = `${instance.gateways[0] ?? ''}/2015-03-31/functions/${FUNCTION}/invocations`;
  // Not by the variables of the environment, which may be of another account.
  const credentials = await callCredentials({}, instance.home.accessKey);
  for (let attempt = 1; ; attempt += 1) {
    const began = performance.now();
    try {
      const unsigned = { method: 'POST', url, headers: {}, body: '{}' };
      const answer = await request(url, {
        method: 'POST',
        body: unsigned.body,
        headers: await provenHeaders(unsigned, credentials),
        signal,
        headersTimeout: CALL_DEADLINE_MS,
        bodyTimeout: CALL_DEADLINE_MS,
      });
      const text = await answer.body.text();
      const milliseconds = performance.now() - began;
      if (answer.statusCode !== 200 || answer.headers['x-amz-function-error'] !== undefined) {
        throw new EsbError(`the gateway answered ${answer.statusCode}: ${text.slice(0, 500)}`, {
          code: localCode('SampleFailed'),
        });
      }
      return { start, milliseconds, counter: (JSON.parse(text) as { readonly counter: number }).counter };
    } catch (error) {
      if (attempt === CALL_ATTEMPTS || signal.aborted) {
        throw new EsbError(
          `calling the sample function (${start}) failed: ${messageOf(error)}\n${await describe(instance, signal)}`,
          { code: localCode('SampleFailed'), cause: error },
        );
      }
      await pause(signal, 500 * attempt);
    }
  }
}

async function describe(instance: Instance, signal: AbortSignal): Promise<string> {
  try {
    const args = ['get', 'lambdaworker', FUNCTION, '-o', 'jsonpath={.status}'];
    return (await kubectl(instance.home, args, { signal })).stdout;
  } catch (error) {
    return messageOf(error);
  }
}
