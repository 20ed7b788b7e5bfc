import { spawn } from 'node:child_process';
import { pythonEnvironment } from './boto3-caller.ts';
import type { Credentials } from './lambda-caller.ts';
import type { PythonClients } from './python-clients.ts';

/** Result of a run of the AWS command line. */
export interface AwsResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Milliseconds until a run is killed. */
const DEADLINE_MS = 60_000;

/** Runs `aws lambda …` against a gateway, as a user types it; each attempt is the only one. */
export async function runAws(
  clients: PythonClients,
  endpoint: string,
  args: readonly string[],
  credentials: Credentials = { accessKeyId: 'test', secretAccessKey: 'test' },
): Promise<AwsResult> {
  const child = spawn(
    clients.python,
    ['-m', 'awscli', '--endpoint-url', endpoint, '--output', 'json', 'lambda', ...args],
    {
      env: {
        ...pythonEnvironment(clients),
        AWS_ACCESS_KEY_ID: credentials.accessKeyId,
        AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
        AWS_DEFAULT_REGION: 'us-east-1',
        AWS_MAX_ATTEMPTS: '1',
        AWS_PAGER: '',
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: DEADLINE_MS,
      killSignal: 'SIGKILL',
    },
  );
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => stderr.push(chunk));
  const done = Promise.withResolvers<AwsResult>();
  child.on('error', done.reject);
  child.on('close', (exitCode) =>
    done.resolve({
      exitCode,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
    }),
  );
  return await done.promise;
}
