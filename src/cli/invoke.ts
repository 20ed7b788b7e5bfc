import { readFile } from 'node:fs/promises';
import { text as textOf } from 'node:stream/consumers';
import { type Dispatcher, request } from 'undici';
import { EsbError, messageOf } from '../common/errors.ts';
import { EVENT_STREAM, EventStreamReader, type InvokeComplete } from '../common/event-stream.ts';
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
  /** Whether to write the answer as the function streams it. */
  readonly stream: boolean;
  /** Whether to show the output of the function during the call. */
  readonly tail: boolean;
}

type Answer = Dispatcher.ResponseData;

const NEWLINE = 10;
/** Milliseconds: the longest that a function may run, and some time to start it. */
const CALL_DEADLINE_MS = 16 * 60_000;

/**
 * Calls a function through the Lambda API. Writes its answer to standard output, and the facts and timings of the call
 * to standard error.
 *
 * @returns the exit code: 0 for an answer of the function, 1 when it failed or was not called
 */
export async function runInvoke(options: InvokeOptions, context: CommandContext): Promise<number> {
  const gateway = await gatewayOf(options, context);
  const credentials = await callCredentials(process.env, gateway.keyFile);
  const url = `${gateway.url}${pathOf(options)}`;
  const { answer, fault, tail, milliseconds } = await post(url, options, credentials, context.write, context.signal);
  if (tail !== undefined) {
    const shown = new LogText({ emulator: false });
    process.stderr.write(shown.take(Buffer.from(tail, 'base64')) + shown.end());
  }
  const requestId = headerOf(answer, 'x-amzn-requestid');
  const id = requestId === undefined ? '' : ` (request ${requestId})`;
  const shownFault = fault === undefined ? '' : ` ${fault}`;
  process.stderr.write(`${answer.statusCode}${shownFault} in ${milliseconds.toFixed(1)} ms${id}\n`);
  const timings = timingsOf(headerOf(answer, 'server-timing'), headerOf(answer, 'x-esb-start'));
  if (timings !== undefined) {
    process.stderr.write(timingTable(timings, milliseconds));
  }
  return answer.statusCode < 300 && fault === undefined ? 0 : 1;
}

function pathOf({ functionName, stream }: InvokeOptions): string {
  const name = encodeURIComponent(functionName);
  return stream
    ? `/2021-11-15/functions/${name}/response-streaming-invocations`
    : `/2015-03-31/functions/${name}/invocations`;
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

/** Facts of an answer that has been written to the end. */
interface Shown {
  /** The kind of the function's failure; undefined where the function did not fail. */
  readonly fault: string | undefined;
  /** The end of the log, in base64; undefined where none was asked for. */
  readonly tail: string | undefined;
}

/** Writes the answer, and tells the milliseconds from the request to its end. */
async function post(
  url: string,
  options: InvokeOptions,
  credentials: CallCredentials,
  write: (text: string) => void,
  signal: AbortSignal,
): Promise<Shown & { readonly answer: Answer; readonly milliseconds: number }> {
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
    const isStream = headerOf(answer, 'content-type') === EVENT_STREAM;
    const shown = isStream ? await showStream(answer, write) : await showWhole(answer, write);
    return { answer, ...shown, milliseconds: performance.now() - began };
  } catch (error) {
    throw new EsbError(`no answer from the gateway at ${new URL(url).origin}: ${messageOf(error)}`, {
      code: 'GatewayUnreachable',
      cause: error,
    });
  }
}

async function showWhole(answer: Answer, write: (text: string) => void): Promise<Shown> {
  const text = await answer.body.text();
  if (text !== '') {
    write(text.endsWith('\n') ? text : `${text}\n`);
  }
  return { fault: headerOf(answer, 'x-amz-function-error'), tail: headerOf(answer, 'x-amz-log-result') };
}

async function showStream(answer: Answer, write: (text: string) => void): Promise<Shown> {
  const reader = new EventStreamReader();
  const text = new TextDecoder();
  let end: InvokeComplete | undefined;
  let isLineOpen = false;
  for await (const bytes of answer.body) {
    for (const { type, payload } of reader.push(bytes as Buffer)) {
      if (type === 'InvokeComplete') {
        end = JSON.parse(payload.toString()) as InvokeComplete;
      } else if (payload.length > 0) {
        write(text.decode(payload, { stream: true }));
        isLineOpen = payload.at(-1) !== NEWLINE;
      }
    }
  }
  if (isLineOpen) {
    write('\n');
  }
  if (end?.ErrorDetails !== undefined) {
    process.stderr.write(`${end.ErrorDetails}\n`);
  }
  return { fault: end === undefined ? 'broken off' : end.ErrorCode, tail: end?.LogResult };
}

function headerOf({ headers }: Answer, name: string): string | undefined {
  const value = headers[name];
  return Array.isArray(value) ? value[0] : value;
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
