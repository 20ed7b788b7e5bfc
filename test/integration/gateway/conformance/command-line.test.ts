import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AwsResult, runAws } from '../../../support/aws-command.ts';
import { type ConformanceLab, parsed, startConformanceLab } from '../../../support/conformance-lab.ts';
import { isUnheard } from '../../../support/lambda-caller.ts';
import { waitFor } from '../../../support/wait-for.ts';

let lab: ConformanceLab;
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'esb-aws-'));
  lab = await startConformanceLab();
  await lab.apply('hello', { timeoutSeconds: 5 });
  await lab.apply('second');
});

afterAll(async () => {
  await lab?.close();
  await rm(folder, { recursive: true, force: true });
});

const aws = (...args: readonly string[]): Promise<AwsResult> => runAws(lab.clients, lab.gateway.url, args);

/** `aws lambda invoke`, and what it wrote to the file that it is given. */
async function invoke(name: string, ...args: readonly string[]): Promise<AwsResult & { readonly payload: string }> {
  const file = join(folder, 'out.json');
  await writeFile(file, '');
  const result = await aws('invoke', '--function-name', name, ...args, file);
  return { ...result, payload: await readFile(file, 'utf8') };
}

function succeeded(result: AwsResult): Record<string, unknown> {
  expect(result).toMatchObject({ exitCode: 0, stderr: '' });
  return parsed(result.stdout === '' ? '{}' : result.stdout);
}

describe('aws lambda invoke', () => {
  it('writes the answer into the file, and its status to the terminal', async () => {
    const result = await invoke('hello', '--payload', '{"echo":"ü"}');
    expect(succeeded(result)).toEqual({ StatusCode: 200, ExecutedVersion: '$LATEST' });
    expect(parsed(result.payload)).toMatchObject({ message: 'hello from hello', echo: 'ü' });
  });

  it('takes an ARN, a qualifier and the payload from a file', async () => {
    const event = join(folder, 'event.json');
    await writeFile(event, '{"echo":17}');
    const arn = 'arn:aws:lambda:us-east-1:123456789012:function:hello';
    const result = await invoke(arn, '--qualifier', '$LATEST', '--payload', `file://${event}`);
    expect(succeeded(result).StatusCode).toBe(200);
    expect(parsed(result.payload).echo).toBe(17);
  });

  it('tells of an error of the function', async () => {
    const result = await invoke('hello', '--payload', '{"raise":"no"}');
    expect(succeeded(result)).toMatchObject({ StatusCode: 200, FunctionError: 'Unhandled' });
    expect(parsed(result.payload)).toMatchObject({ errorType: 'ValueError', errorMessage: 'no' });
  });

  it('gives the tail of the log', async () => {
    const result = await invoke('hello', '--log-type', 'Tail', '--payload', '{"print":"seen"}');
    const tail = Buffer.from(String(succeeded(result).LogResult), 'base64').toString();
    expect(tail).toMatch(/\nREPORT RequestId: [^\n]*\tMemory Size: 128 MB\tMax Memory Used: \d+ MB(?:\t|\n)/);
    expect(tail).toContain('seen');
  });

  it('gives the function a client context', async () => {
    const context = Buffer.from('{"custom":{"tenant":"blue"}}').toString('base64');
    const result = await invoke('hello', '--client-context', context);
    succeeded(result);
    expect(parsed(result.payload).clientContext).toEqual({ tenant: 'blue' });
  });

  it('sends an event, and a dry run', async () => {
    const event = await invoke('hello', '--invocation-type', 'Event', '--payload', '{"print":"an event"}');
    expect(succeeded(event)).toEqual({ StatusCode: 202 });
    await lab.logged('hello', 'an event');
    const dryRun = await invoke('hello', '--invocation-type', 'DryRun');
    expect(succeeded(dryRun)).toEqual({ StatusCode: 204 });
  });

  it.each([
    ['nobody', '{}', 'ResourceNotFoundException', 'Function not found: arn:aws:lambda:'],
    ['hello:7', '{}', 'ResourceNotFoundException', ':function:hello:7'],
    ['a b', '{}', 'InvalidParameterValueException', 'functionName'],
    ['hello', '{', 'InvalidRequestContentException', 'JSON'],
  ])('of %s with %s ends with %s', async (name, payload, error, message) => {
    const { exitCode, stderr } = await waitFor('a gateway that hears from the API server', async () => {
      const result = await invoke(name, '--payload', payload);
      return isUnheard(503, result.stderr) ? undefined : result;
    });
    expect(exitCode).toBe(255);
    expect(stderr).toContain(`An error occurred (${error}) when calling the Invoke operation`);
    expect(stderr).toContain(message);
  });
});

describe('aws lambda', () => {
  it('reads functions', async () => {
    expect(succeeded(await aws('get-function', '--function-name', 'hello'))).toMatchObject({
      Configuration: { FunctionName: 'hello', Timeout: 5 },
      Code: { ImageUri: lab.image },
    });
    const { Functions } = succeeded(await aws('list-functions', '--page-size', '1'));
    expect(Functions).toMatchObject([{ FunctionName: 'hello' }, { FunctionName: 'second' }]);
    expect(succeeded(await aws('get-account-settings'))).toMatchObject({
      AccountUsage: { FunctionCount: 2 },
    });
  });

  it('waits until a function is active', async () => {
    succeeded(await aws('wait', 'function-active-v2', '--function-name', 'hello'));
    succeeded(await aws('wait', 'function-updated-v2', '--function-name', 'hello'));
    succeeded(await aws('wait', 'function-exists', '--function-name', 'hello'));
  });

  it('has no operation for answers that stream', async () => {
    const { exitCode, stderr } = await aws('invoke-with-response-stream', '--function-name', 'hello', 'out');
    expect(exitCode).toBe(2);
    expect(stderr).toContain('Invalid choice');
  });

  it('is told to use kubectl where it writes', async () => {
    const { exitCode, stderr } = await aws('delete-function', '--function-name', 'hello');
    expect(exitCode).toBe(255);
    expect(stderr).toContain('(UnsupportedOperationException) when calling the DeleteFunction operation');
    expect(stderr).toContain('kubectl delete lambdafunction');
  });
});
