import { readFile } from 'node:fs/promises';
import { text as textOf } from 'node:stream/consumers';
import { request } from 'undici';
import { EsbError, messageOf } from '../common/errors.ts';
import { openHome } from './home.ts';
import { requireInstance } from './instance.ts';
import type { CommandContext } from './up.ts';

export interface InvokeOptions {
  readonly functionName: string;
  /** JSON, `@FILE`, or `-` for standard input. */
  readonly payload: string;
  /** Address of the gateway; that of the local instance when absent. */
  readonly gateway?: string;
  /** RequestResponse, Event or DryRun. */
  readonly type: string;
  /** Whether to show what the function wrote during the call. */
  readonly tail: boolean;
}

/** The longest that a function may run, and some time to start it. */
const CALL_DEADLINE_MS = 16 * 60_000;

/**
 * Calls a function through the Lambda API and writes its answer.
 *
 * @returns the exit code: 0 for an answer of the function, 1 when it failed or was not called
 */
export async function runInvoke(options: InvokeOptions, context: CommandContext): Promise<number> {
  const write = context.write ?? ((text) => void process.stdout.write(text));
  const gateway = options.gateway ?? (await requireInstance(openHome())).gateways[0] ?? '';
  const url = `${gateway}/2015-03-31/functions/${encodeURIComponent(options.functionName)}/invocations`;
  const began = performance.now();
  const answer = await post(url, options, context.signal);
  const text = await answer.body.text();
  const milliseconds = performance.now() - began;
  const header = (name: string): string | undefined => {
    const value = answer.headers[name];
    return Array.isArray(value) ? value[0] : value;
  };
  const tail = header('x-amz-log-result');
  if (tail !== undefined) {
    process.stderr.write(Buffer.from(tail, 'base64').toString());
  }
  if (text !== '') {
    write(text.endsWith('\n') ? text : `${text}\n`);
  }
  const functionError = header('x-amz-function-error');
  process.stderr.write(
    `${answer.statusCode}${functionError === undefined ? '' : ` ${functionError}`} in ${milliseconds.toFixed(1)} ms\n`,
  );
  return answer.statusCode < 300 && functionError === undefined ? 0 : 1;
}

async function post(url: string, options: InvokeOptions, signal: AbortSignal): ReturnType<typeof request> {
  const body = await payloadOf(options.payload);
  try {
    return await request(url, {
      method: 'POST',
      body,
      signal,
      headersTimeout: CALL_DEADLINE_MS,
      bodyTimeout: CALL_DEADLINE_MS,
      headers: {
        'content-type': 'application/json',
        'x-amz-invocation-type': options.type,
        ...(options.tail ? { 'x-amz-log-type': 'Tail' } : {}),
      },
    });
  } catch (error) {
    throw new EsbError(`no answer from the gateway at ${new URL(url).origin}: ${messageOf(error)}`, {
      code: 'GatewayUnreachable',
      cause: error,
    });
  }
}

async function payloadOf(given: string): Promise<string> {
  if (given === '-') {
    return textOf(process.stdin);
  }
  return given.startsWith('@') ? readFile(given.slice(1), 'utf8') : given;
}
