import { readFile } from 'node:fs/promises';
import { text as textOf } from 'node:stream/consumers';
import { request } from 'undici';
import { EsbError, messageOf } from '../common/errors.ts';
import { type CallCredentials, callCredentials, provenHeaders } from './call-credentials.ts';
import type { CommandContext } from './command-context.ts';
import { timingsOf, timingTable } from './invoke-timings.ts';
import { LogText } from './log-text.ts';

export interface InvokeOptions {
  readonly functionName: string;
  /** JSON, `@FILE`, or `-` for standard input. */
  readonly payload: string;
  /** Address of the gateway; by default that of the local instance. */
  readonly gateway?: string;
  /** RequestResponse, Event or DryRun. */
  readonly type: string;
  /** Whether the call is of type Event, in spite of `type`. */
  readonly event: boolean;
  /** The client context of the function: JSON, or `@FILE`. */
  readonly clientContext?: string;
  /** Whether to show the output of the function during the call. */
  readonly tail: boolean;
}

/** Milliseconds: the longest that a function may run, and some time to start it. */
const CALL_DEADLINE_MS = 16 * 60_000;

/**
 * Calls a function through the Lambda API. Writes its answer to standard output, and the facts and timings of the call
 * to standard error.
 *
 * @returns the exit code: 0 for an answer of the function, 1 when it failed or was not called
 */
export async function runInvoke(options: InvokeOptions, context: CommandContext): Promise<number> {
  const write = context.write ?? ((text) => void process.stdout.write(text));
  const gateway = await gatewayOf(options, context);
  const credentials = await callCredentials(process.env, gateway.keyFile);
  const url = `${gateway.url}/2015-03-31/functions/${encodeURIComponent(options.functionName)}/invocations`;
  const { answer, text, milliseconds } = await post(url, options, credentials, context.signal);
  const header = (name: string): string | undefined => {
    const value = answer.headers[name];
    return Array.isArray(value) ? value[0] : value;
  };
  const tail = header('x-amz-log-result');
  if (tail !== undefined) {
    const shown = new LogText({ emulator: false });
    process.stderr.write(shown.take(Buffer.from(tail, 'base64')) + shown.end());
  }
  if (text !== '') {
    write(text.endsWith('\n') ? text : `${text}\n`);
  }
  const functionError = header('x-amz-function-error');
  const requestId = header('x-amzn-requestid');
  const fault = functionError === undefined ? '' : ` ${functionError}`;
  const id = requestId === undefined ? '' : ` (request ${requestId})`;
  process.stderr.write(`${answer.statusCode}${fault} in ${milliseconds.toFixed(1)} ms${id}\n`);
  const timings = timingsOf(header('server-timing'), header('x-esb-start'));
  if (timings !== undefined) {
    process.stderr.write(timingTable(timings, milliseconds));
  }
  return answer.statusCode < 300 && functionError === undefined ? 0 : 1;
}

/** The named gateway, else that of the local instance with its key. */
async function gatewayOf(
  options: InvokeOptions,
  { openInstance }: CommandContext,
): Promise<{ readonly url: string; readonly keyFile?: string }> {
  if (options.gateway !== undefined) {
    return { url: options.gateway };
  }
  if (openInstance === undefined) {
    throw new EsbError('there is no local instance here: name a gateway with --gateway', { code: 'InvalidArgument' });
  }
  return await (await openInstance()).gateway();
}

/** The answer with all of its text, and the milliseconds from the request to its end. */
async function post(url: string, options: InvokeOptions, credentials: CallCredentials, signal: AbortSignal) {
  const body = await payloadOf(options.payload);
  const clientContext = options.clientContext === undefined ? undefined : await clientContextOf(options.clientContext);
  const headers = {
    'content-type': 'application/json',
    'x-amz-invocation-type': options.event ? 'Event' : options.type,
    ...(clientContext === undefined ? {} : { 'x-amz-client-context': clientContext }),
    ...(options.tail ? { 'x-amz-log-type': 'Tail' } : {}),
  };
  const proven = await provenHeaders({ method: 'POST', url, headers, body }, credentials, process.env);
  const began = performance.now();
  try {
    const timeouts = { headersTimeout: CALL_DEADLINE_MS, bodyTimeout: CALL_DEADLINE_MS };
    const answer = await request(url, { method: 'POST', body, signal, headers: proven, ...timeouts });
    const text = await answer.body.text();
    return { answer, text, milliseconds: performance.now() - began };
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

/** A client context in the form of the Lambda API: base64 of a JSON object. */
async function clientContextOf(given: string): Promise<string> {
  const json = given.startsWith('@') ? await readFile(given.slice(1), 'utf8') : given;
  try {
    JSON.parse(json);
  } catch (error) {
    throw new EsbError(`the client context is not JSON: ${messageOf(error)}`, {
      code: 'InvalidArgument',
      cause: error,
    });
  }
  return Buffer.from(json).toString('base64');
}
